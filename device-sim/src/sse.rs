//! Server-sent events: bytes to events (WHATWG HTML, section 9.2.6), as far as our streams use it. Pure.

/// Longest event kept while it is not whole. Beyond it the stream is given up.
pub const MAX_EVENT: usize = 4 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// The `event:` field; empty text when there was none.
    pub event: String,
    /// The `data:` lines, joined by line feeds.
    pub data: String,
}

/// Collects the bytes of one stream.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    event: String,
    data: Vec<String>,
    held: usize,
}

/// The stream sent more than [`MAX_EVENT`] bytes without an end of event.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is longer than {MAX_EVENT} bytes")]
pub struct EventTooLong;

impl SseParser {
    /// Takes bytes as they came; yields the events that are whole now. Comments and empty events yield nothing.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<SseEvent>, EventTooLong> {
        let mut events = Vec::new();
        for byte in bytes {
            self.held += 1;
            match *byte {
                b'\n' => events.extend(self.end_line()),
                other => self.line.push(other),
            }
            if self.held > MAX_EVENT {
                return Err(EventTooLong);
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Option<SseEvent> {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        let line = line.strip_suffix('\r').unwrap_or(&line);
        if line.is_empty() {
            self.held = 0;
            let event = std::mem::take(&mut self.event);
            let data = std::mem::take(&mut self.data);
            return (!data.is_empty()).then(|| SseEvent {
                event,
                data: data.join("\n"),
            });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.event = value.to_owned(),
            "data" => self.data.push(value.to_owned()),
            _comment_or_other => {}
        }
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    const STREAM: &str = ": hello\n\nevent: reset\ndata: {\"a\":\ndata: 1}\nid: 7\n\n:beat\n\r\nevent:child\r\ndata:乐乐\r\n\r\n";

    #[test]
    fn events_are_the_same_wherever_the_bytes_are_cut() {
        let expected = [
            SseEvent {
                event: "reset".to_owned(),
                data: "{\"a\":\n1}".to_owned(),
            },
            SseEvent {
                event: "child".to_owned(),
                data: "乐乐".to_owned(),
            },
        ];
        for cut in 0..STREAM.len() {
            let mut parser = SseParser::default();
            let mut events = parser.push(&STREAM.as_bytes()[..cut]).unwrap();
            events.extend(parser.push(&STREAM.as_bytes()[cut..]).unwrap());
            assert_eq!(events, expected, "cut at {cut}");
        }
    }

    #[test]
    fn an_endless_event_is_given_up_and_many_small_ones_are_not() {
        let mut parser = SseParser::default();
        assert_eq!(parser.push(&vec![b'x'; MAX_EVENT + 1]), Err(EventTooLong));
        let mut parser = SseParser::default();
        for _ in 0..MAX_EVENT / 1000 {
            parser
                .push(format!("data: {}\n\n", "x".repeat(2000)).as_bytes())
                .unwrap();
        }
    }
}
