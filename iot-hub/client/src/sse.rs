//! Server-sent events, the part of the HTML standard (9.2.6) that the hub uses: `id`, `data`, comments; LF or CRLF lines.

/// The largest event that is accepted, in bytes: a deployment with the largest manifest, escaped twice over.
const MAX_EVENT: usize = 16 << 20;

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SseEvent {
    pub(crate) id: Option<String>,
    pub(crate) data: String,
}

/// The peer sent an event above the cap, or text that is not UTF-8.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotSse(pub(crate) &'static str);

/// Bytes in, events out; keeps what is incomplete.
#[derive(Debug, Default)]
pub(crate) struct SseParser {
    line: Vec<u8>,
    event: SseEvent,
    has_data: bool,
}

impl SseParser {
    /// The events that these bytes complete.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<SseEvent>, NotSse> {
        let mut events = Vec::new();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (head, tail) = bytes.split_at(end);
            self.keep(head)?;
            bytes = tail.split_first().map_or(&[][..], |(_, rest)| rest);
            let line = std::mem::take(&mut self.line);
            events.extend(self.end_line(line)?);
        }
        self.keep(bytes)?;
        Ok(events)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), NotSse> {
        if self.line.len() + self.event.data.len() + bytes.len() > MAX_EVENT {
            return Err(NotSse("an event exceeds the limit"));
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, mut line: Vec<u8>) -> Result<Option<SseEvent>, NotSse> {
        line.pop_if(|byte| *byte == b'\r');
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            // An event without data is dispatched to nobody.
            return Ok(std::mem::take(&mut self.has_data).then_some(event));
        }
        let line = String::from_utf8(line).map_err(|_| NotSse("an event is not UTF-8"))?;
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.event.id = Some(value.to_owned()),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // Comments keep the connection alive; other fields are not used.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
