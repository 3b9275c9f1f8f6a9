//! The Engine's own thread, and the handle that asynchronous code talks to it through. Nothing that
//! must answer at once (health, authentication) ever waits behind it.

use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;

use crate::sync::Engine;

type Job = Box<dyn FnOnce(&mut Engine) + Send>;

/// Sends work to the Engine's thread. The thread ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    jobs: mpsc::Sender<Job>,
}

/// The Engine's thread has ended: a bug, or the process is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node is stopping; try again when it runs")]
pub struct EngineGone;

impl EngineHandle {
    /// Gives the Engine a thread of its own.
    ///
    /// # Errors
    /// When the system refuses another thread.
    pub fn spawn(mut engine: Engine) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::Builder::new().name("engine".to_owned()).spawn(move || {
            while let Ok(job) = queue.recv() {
                job(&mut engine);
            }
        })?;
        Ok(Self { jobs })
    }

    /// Runs `work` on the Engine and waits for its result.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn call<T: Send + 'static>(&self, work: impl FnOnce(&mut Engine) -> T + Send + 'static) -> Result<T, EngineGone> {
        let (answer, result) = oneshot::channel();
        let job: Job = Box::new(move |engine| {
            // Nobody waits any more when the caller was cancelled.
            drop(answer.send(work(engine)));
        });
        self.jobs.send(job).map_err(|_| EngineGone)?;
        result.await.map_err(|_| EngineGone)
    }
}
