//! The last retained message of each topic.
//!
//! Owns the table and its bounds. Knows no session.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::message::Message;

/// A message with the time it came.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What is handed to new subscribers.
    pub message: Arc<Message>,
    /// When it came.
    pub at: Duration,
}

impl Kept {
    /// Whether nobody wants it any more.
    #[must_use]
    pub fn is_over(&self, now: Duration) -> bool {
        left(&self.message, self.at, now) == Some(0)
    }
}

/// Seconds for which a message is still wanted; none = for ever, 0 = no longer.
#[must_use]
pub fn left(message: &Message, at: Duration, now: Duration) -> Option<u32> {
    let expiry = message.properties.expiry?;
    let waited = u32::try_from(now.saturating_sub(at).as_secs()).unwrap_or(u32::MAX);
    Some(expiry.saturating_sub(waited))
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct Retained {
    topics: BTreeMap<Arc<str>, Kept>,
    bytes: usize,
}

impl Retained {
    /// Whether a message fits beside the others, in place of the one on its topic.
    #[must_use]
    pub fn has_room(&self, message: &Message, topics: usize, bytes: usize) -> bool {
        let old = self.topics.get(&message.topic);
        let freed = old.map_or(0, |kept| kept.message.cost());
        let count = self.topics.len() + usize::from(old.is_none());
        count <= topics && self.bytes - freed + message.cost() <= bytes
    }

    /// Keeps a message in place of the one before it on its topic.
    pub fn keep(&mut self, message: Arc<Message>, at: Duration) {
        self.forget(&message.topic);
        self.bytes += message.cost();
        let topic = Arc::clone(&message.topic);
        self.topics.insert(topic, Kept { message, at });
    }

    /// Keeps none on this topic any more. Says whether there was one.
    pub fn forget(&mut self, topic: &str) -> bool {
        let old = self.topics.remove(topic);
        self.bytes -= old.as_ref().map_or(0, |kept| kept.message.cost());
        old.is_some()
    }

    /// Forgets what nobody wants any more and gives its topics.
    pub fn expire(&mut self, now: Duration) -> Vec<Arc<str>> {
        let over = self.topics.values().filter(|kept| kept.is_over(now));
        let over: Vec<_> = over.map(|kept| Arc::clone(&kept.message.topic)).collect();
        for topic in &over {
            self.forget(topic);
        }
        over
    }

    /// Every message kept, by topic.
    pub fn iter(&self) -> impl Iterator<Item = &Kept> {
        self.topics.values()
    }

    /// Topics kept, and their bytes.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.topics.len(), self.bytes)
    }
}
