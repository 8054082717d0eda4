//! Members of gzip and frames of zstd, each compressed by itself, on all cores.

use std::io::{self, Write};

use super::super::cpu_pool;
use super::super::in_order::InOrder;
use super::CHUNK;
use crate::{Digest, Hasher};

/// What a piece becomes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    Gzip(u32),
    Zstd(i32),
}

pub(super) struct Pieces<'a> {
    form: Form,
    output: &'a mut (dyn Write + Send),
    current: Vec<u8>,
    jobs: InOrder<'static, io::Result<Vec<u8>>>,
    submitted: usize,
    /// Where each piece that was written begins.
    offsets: Vec<u64>,
    written: u64,
    hasher: Hasher,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(form: Form, output: &'a mut (dyn Write + Send)) -> io::Result<Self> {
        let known = match form {
            Form::Gzip(level) => level <= 9,
            Form::Zstd(level) => (1..=22).contains(&level),
        };
        if !known {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("there is no such level: {form:?}"),
            ));
        }
        Ok(Self {
            form,
            output,
            current: Vec::new(),
            // What a piece becomes is memory of its own.
            jobs: InOrder::new(cpu_pool()?, 2 * CHUNK),
            submitted: 0,
            offsets: Vec::new(),
            written: 0,
            hasher: Hasher::default(),
        })
    }

    /// Adds to the current piece.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.current.extend_from_slice(bytes);
        if self.current.len() >= CHUNK {
            self.cut()?;
        }
        Ok(())
    }

    /// Ends the current piece, if there is anything in it. Answers the number of the next.
    pub(super) fn cut(&mut self) -> io::Result<usize> {
        if self.current.is_empty() {
            return Ok(self.submitted);
        }
        while self.jobs.is_full() {
            self.collect()?;
        }
        let piece = std::mem::take(&mut self.current);
        let form = self.form;
        self.jobs.submit(move || compress(form, &piece));
        self.submitted += 1;
        Ok(self.submitted)
    }

    /// Writes the oldest piece on its way. False if there is none.
    fn collect(&mut self) -> io::Result<bool> {
        let Some(data) = self.jobs.next()? else {
            return Ok(false);
        };
        let data = data?;
        self.output.write_all(&data)?;
        self.offsets.push(self.written);
        self.written += data.len() as u64;
        Ok(true)
    }

    /// Writes what is left of the pieces so far. Answers where each of them begins, and last where the
    /// next one would.
    pub(super) fn flush(&mut self) -> io::Result<Vec<u64>> {
        self.cut()?;
        while self.collect()? {}
        let mut offsets = self.offsets.clone();
        offsets.push(self.written);
        Ok(offsets)
    }

    /// Writes something that is no piece.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// The digest of all that was put into pieces.
    pub(super) fn finish(self) -> io::Result<Digest> {
        self.output.flush()?;
        Ok(self.hasher.finish())
    }
}

pub(super) fn compress(form: Form, piece: &[u8]) -> io::Result<Vec<u8>> {
    match form {
        Form::Gzip(level) => {
            let level = flate2::Compression::new(level);
            // No name, no time, unknown system: nothing that could differ.
            let builder = flate2::GzBuilder::new().mtime(0).operating_system(255);
            let mut encoder = builder.write(Vec::new(), level);
            encoder.write_all(piece)?;
            encoder.finish()
        }
        Form::Zstd(level) => {
            let mut encoder = zstd::bulk::Compressor::new(level)?;
            encoder.include_checksum(true)?;
            encoder.compress(piece)
        }
    }
}
