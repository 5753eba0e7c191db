//! A list that only grows and that tasks can wait on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// See the head of the module. Clones share the list.
#[derive(Debug)]
pub struct Feed<T> {
    items: Arc<Mutex<Vec<T>>>,
    grown: Arc<watch::Sender<usize>>,
}

impl<T> Clone for Feed<T> {
    fn clone(&self) -> Self {
        Feed {
            items: Arc::clone(&self.items),
            grown: Arc::clone(&self.grown),
        }
    }
}

impl<T> Default for Feed<T> {
    fn default() -> Self {
        Feed {
            items: Arc::default(),
            grown: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl<T> Feed<T> {
    /// Appends an item and wakes who waits.
    pub fn push(&self, item: T) {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        items.push(item);
        self.grown.send_replace(items.len());
    }

    /// The first item for which `pick` has an answer; waits for it at most `longest`.
    pub async fn find<R>(&self, longest: Duration, pick: impl Fn(&T) -> Option<R>) -> Option<R> {
        let mut grown = self.grown.subscribe();
        let mut looked_at = 0;
        let search = async {
            loop {
                grown.borrow_and_update();
                if let Some(found) = self.search(&mut looked_at, &pick) {
                    return Some(found);
                }
                grown.changed().await.ok()?;
            }
        };
        tokio::time::timeout(longest, search).await.ok().flatten()
    }

    /// How many items `pick` takes now.
    pub fn count(&self, pick: impl Fn(&T) -> bool) -> usize {
        self.items
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter(|item| pick(item))
            .count()
    }

    fn search<R>(&self, looked_at: &mut usize, pick: &impl Fn(&T) -> Option<R>) -> Option<R> {
        let items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        let found = items.iter().skip(*looked_at).find_map(pick);
        *looked_at = items.len();
        found
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_came_before_and_what_comes_later_is_found() {
        let feed = Feed::default();
        feed.push(1);
        let even = |item: &i32| (item % 2 == 0).then_some(*item);
        let waiting = tokio::spawn({
            let feed = feed.clone();
            async move { feed.find(Duration::from_secs(60), even).await }
        });
        tokio::task::yield_now().await;
        feed.push(3);
        feed.push(4);
        assert_eq!(waiting.await.unwrap(), Some(4));
        assert_eq!(
            feed.find(Duration::from_secs(60), |item| (*item == 1).then_some(()))
                .await,
            Some(())
        );
        assert_eq!(
            feed.find(Duration::ZERO, |item| (*item == 9).then_some(()))
                .await,
            None
        );
        assert_eq!(feed.count(|item| item % 2 == 1), 2);
    }
}
