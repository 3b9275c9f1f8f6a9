//! The Engine's own thread, and the handle that asynchronous code talks to it through. Nothing that
//! must answer at once (health, authentication) ever waits behind it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use storysync_engine::{Engine, EngineError};

/// How long work is tried again while another program keeps the file locked.
const LOCKED_WITHIN: Duration = Duration::from_secs(8);
/// Pause before it is tried again: others get the Engine meanwhile.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// As many documents are taken apart on a thread of their own.
const DROPPED_ELSEWHERE_MIN: usize = 256;

type Job = Box<dyn FnOnce(&mut Engine) + Send>;

/// Sends work to the Engine's thread. The thread ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    jobs: mpsc::Sender<Job>,
    ends: watch::Receiver<i64>,
}

/// The Engine's thread has ended, or the work broke off: the process is stopping, or it is a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node is stopping, or this broke off inside it; try again, and look into its log")]
pub struct EngineGone;

impl EngineHandle {
    /// Gives the Engine a thread of its own.
    ///
    /// # Errors
    /// When the system refuses another thread.
    pub fn spawn(mut engine: Engine) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (end, ends) = watch::channel(engine.log_end());
        thread::Builder::new().name("engine".to_owned()).spawn(move || {
            while let Ok(job) = queue.recv() {
                // What broke off was rolled back with its transaction; the others shall not go
                // without an Engine.
                if catch_unwind(AssertUnwindSafe(|| job(&mut engine))).is_err() {
                    tracing::error!("a piece of work broke off; nothing of it was written");
                }
                end.send_if_modified(|end| {
                    std::mem::replace(end, engine.log_end()) != engine.log_end()
                });
                let spent = engine.take_spent();
                if spent.len() >= DROPPED_ELSEWHERE_MIN {
                    // Where the system has no thread to spare, they are dropped here.
                    drop(thread::Builder::new().name("drop".to_owned()).spawn(|| drop(spent)));
                }
            }
        })?;
        Ok(Self { jobs, ends })
    }

    /// Where the log ends, whenever it has moved.
    #[must_use]
    pub fn ends(&self) -> watch::Receiver<i64> {
        self.ends.clone()
    }

    /// Runs `work` on the Engine and waits for its result. While the file is locked by another
    /// program, the work steps back, lets others have their turn, and is tried again.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn call<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Engine) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<Result<T, EngineError>, EngineGone> {
        self.begin(work).await
    }

    /// The same, where the work has its place in the queue before anybody waits for it.
    pub fn begin<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Engine) -> Result<T, EngineError> + Send + 'static,
    ) -> impl Future<Output = Result<Result<T, EngineError>, EngineGone>> + Send + 'static {
        let begun = Instant::now();
        let jobs = self.jobs.clone();
        let mut queued = queue(&jobs, work);
        async move {
            loop {
                let (done, again) = queued?.await.map_err(|_| EngineGone)?;
                match done {
                    Err(EngineError::Locked(_) | EngineError::Rebuilding(_))
                        if begun.elapsed() < LOCKED_WITHIN =>
                    {
                        tokio::time::sleep(TRY_AGAIN_AFTER).await;
                        queued = queue(&jobs, again);
                    }
                    done => return Ok(done),
                }
            }
        }
    }
}

/// Work that was done, and what does it again.
type Done<T, W> = (Result<T, EngineError>, W);

fn queue<T: Send + 'static, W: FnMut(&mut Engine) -> Result<T, EngineError> + Send + 'static>(
    jobs: &mpsc::Sender<Job>,
    mut work: W,
) -> Result<oneshot::Receiver<Done<T, W>>, EngineGone> {
    let (answer, result) = oneshot::channel();
    let job: Job = Box::new(move |engine| {
        let done = work(engine);
        // Nobody waits any more when the caller was cancelled.
        drop(answer.send((done, work)));
    });
    jobs.send(job).map(|()| result).map_err(|_| EngineGone)
}
