//! Reads the text of a QR code from a picture somebody saved or took.

use image::DynamicImage;

/// A picture without a readable code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PictureError {
    /// The bytes are no picture.
    #[error("this is no picture that can be read; use a PNG or JPEG")]
    NoPicture(#[source] image::ImageError),
    /// There is no code in it.
    #[error("no QR code was found in the picture; take it straight on, with the whole code in it")]
    NoCode,
}

/// The text of the first code in a PNG or JPEG.
///
/// # Errors
/// See [`PictureError`].
pub(crate) fn text_in(bytes: &[u8]) -> Result<String, PictureError> {
    text_of(&image::load_from_memory(bytes).map_err(PictureError::NoPicture)?)
}

fn text_of(picture: &DynamicImage) -> Result<String, PictureError> {
    let picture = picture.to_luma8();
    let mut prepared = rqrr::PreparedImage::prepare_from_greyscale(
        picture.width() as usize,
        picture.height() as usize,
        |x, y| match (u32::try_from(x), u32::try_from(y)) {
            (Ok(x), Ok(y)) => picture
                .get_pixel_checked(x, y)
                .map_or(255, |pixel| pixel.0.first().copied().unwrap_or(255)),
            _ => 255,
        },
    );
    prepared
        .detect_grids()
        .into_iter()
        .find_map(|grid| grid.decode().ok())
        .map(|(_, text)| text)
        .ok_or(PictureError::NoCode)
}
