//! Bodies out of their compression, within a bound that a bomb does not pass.

use std::io::{self, Read as _};

use flate2::bufread::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};

use super::{Cause, Compression, Undecoded};

/// Memory for what comes out, at first, and at least so much more at a time.
const STEP_BYTES_MIN: usize = 4 << 10;

/// The whole of `frame`, decompressed, of at most `bytes_max` bytes.
pub(super) fn inflate(
    compression: Compression,
    frame: &[u8],
    bytes_max: usize,
) -> Result<Vec<u8>, Undecoded> {
    match compression {
        Compression::Zlib => zlib(frame, bytes_max),
        Compression::Gzip => gzip(frame, bytes_max),
    }
}

/// Not by flate2's reader, to which a stream that breaks off has come to its end.
fn zlib(frame: &[u8], bytes_max: usize) -> Result<Vec<u8>, Undecoded> {
    let mut inflater = Decompress::new(true);
    let mut out = Vec::new();
    loop {
        if out.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        if out.len() == out.capacity() {
            let step = out.len().max(frame.len()).max(STEP_BYTES_MIN);
            out.reserve_exact(step.min(bytes_max + 1 - out.len()));
        }
        let rest = &frame[taken(&inflater, frame)..];
        let status = inflater
            .decompress_vec(rest, &mut out, FlushDecompress::Finish)
            .map_err(|error| broken(format!("zlib: {}", error.message().unwrap_or("it is broken"))))?;
        match status {
            Status::StreamEnd => break,
            Status::Ok | Status::BufError if out.len() == out.capacity() => {}
            Status::Ok | Status::BufError => return Err(broken("zlib: it breaks off")),
        }
    }
    if out.len() > bytes_max {
        return Err(too_large(bytes_max));
    }
    match frame.len() - taken(&inflater, frame) {
        0 => Ok(out),
        behind => Err(broken(format!("zlib: {behind} bytes behind its end"))),
    }
}

fn taken(inflater: &Decompress, frame: &[u8]) -> usize {
    usize::try_from(inflater.total_in()).map_or(frame.len(), |taken| taken.min(frame.len()))
}

fn gzip(frame: &[u8], bytes_max: usize) -> Result<Vec<u8>, Undecoded> {
    let mut out = Vec::new();
    let limited = MultiGzDecoder::new(frame).take(bytes_max as u64 + 1).read_to_end(&mut out);
    if out.len() > bytes_max {
        return Err(too_large(bytes_max));
    }
    match limited {
        Ok(_) => Ok(out),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(broken("gzip: it breaks off")),
        Err(error) => Err(broken(format!("gzip: {error}"))),
    }
}

fn broken(why: impl ToString) -> Undecoded {
    Undecoded::new(Cause::Compression, why)
}

fn too_large(bytes_max: usize) -> Undecoded {
    Undecoded::new(Cause::TooLarge, format!("more than {bytes_max} bytes when decompressed"))
}
