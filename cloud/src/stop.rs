//! Ending in order: long conversations are told to end, and whoever ends the process waits for them.

use std::convert::Infallible;

use tokio::sync::{mpsc, watch};

/// Held by every long conversation.
#[derive(Clone)]
pub struct Stop {
    told: watch::Receiver<bool>,
    _busy: mpsc::Sender<Infallible>,
}

/// Held by whoever ends the process.
pub struct Stopper {
    tell: watch::Sender<bool>,
    busy: mpsc::Receiver<Infallible>,
}

/// The two ends.
#[must_use]
pub fn stop() -> (Stopper, Stop) {
    let (tell, told) = watch::channel(false);
    let (_busy, busy) = mpsc::channel(1);
    (Stopper { tell, busy }, Stop { told, _busy })
}

impl Stop {
    /// Returns once the process is to end.
    pub async fn told(&mut self) {
        // An error means that nobody is left to tell, which is an end too.
        let _ = self.told.wait_for(|told| *told).await;
    }
}

impl Stopper {
    /// Tells everybody.
    pub fn tell(&self) {
        self.tell.send_replace(true);
    }

    /// Returns once every [`Stop`] is gone.
    pub async fn idle(&mut self) {
        while self.busy.recv().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_waits_for_whoever_is_busy() {
        let (mut stopper, mut stop) = stop();
        let busy = tokio::spawn(async move { stop.told().await });
        stopper.tell();
        stopper.idle().await;
        assert!(busy.is_finished());
    }
}
