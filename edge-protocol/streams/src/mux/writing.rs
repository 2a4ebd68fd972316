//! The writing task of connections that are bytes.

use std::io;

use tokio::io::{AsyncWrite, AsyncWriteExt as _, WriteHalf};

use super::shared::Shared;
use super::table::{Next, Word};
use crate::limits::WRITE_CHUNK;

/// Written at once, if there is as much: few system calls, and no stream waits long behind another.
const BATCH: usize = 4 * WRITE_CHUNK;

/// How words become bytes.
pub(crate) trait Carrier: Send {
    fn put(&mut self, word: &Word, out: &mut Vec<u8>);

    /// Everything that was put has been written.
    fn written<T: AsyncWrite + Send>(
        &mut self,
        output: &mut WriteHalf<T>,
        shared: &Shared,
    ) -> impl Future<Output = io::Result<()>> + Send;
}

/// Writes what there is to say, until the connection has ended.
pub(crate) async fn write_words<T: AsyncWrite + Send>(
    output: &mut WriteHalf<T>,
    carrier: &mut impl Carrier,
    shared: &Shared,
) -> io::Result<()> {
    let mut batch = Vec::new();
    loop {
        let next = shared.try_next();
        let more = if let Next::Say(word) = &next {
            carrier.put(word, &mut batch);
            batch.len() < BATCH
        } else {
            false
        };
        if more {
            continue;
        }
        if !batch.is_empty() {
            output.write_all(&batch).await?;
            shared.touch();
            batch.clear();
        }
        match next {
            Next::Say(_) => {}
            Next::Wait => {
                output.flush().await?;
                carrier.written(output, shared).await?;
                batch = Vec::new();
                shared.words().await;
            }
            // Never `shutdown`: Go's peers take the end of one direction for the end of all.
            Next::Stop => return output.flush().await,
        }
    }
}
