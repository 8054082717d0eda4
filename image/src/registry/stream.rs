//! A blob read from a registry as it comes, without a place in the store: how an image is pushed whose
//! base is in another registry only.

use std::io::{self, Read};

use strata_cache::{Digest, Hasher};

use super::client::Call;
use super::mirror::places;
use super::pull::{blob_action, protocol, range_start, transport};
use super::{Client, RegistryError, retry};
use crate::Reference;

/// Reads a blob from an offset on. A connection that breaks is followed by another; what was read
/// from the beginning has the digest, or reading it ends with an error.
pub(crate) struct BlobStream<'a> {
    client: &'a Client,
    /// Where the blob may be, in the order in which they are asked.
    places: Vec<Reference>,
    digest: Digest,
    size: u64,
    done: u64,
    hasher: Option<Hasher>,
    body: Option<Box<dyn Read + 'a>>,
    failures: u32,
}

impl<'a> BlobStream<'a> {
    /// Opens `digest` at the first of `origins`, or a mirror of it, that has it.
    pub(crate) fn open(
        client: &'a Client,
        origins: &[Reference],
        digest: Digest,
        size: u64,
        offset: u64,
    ) -> Result<Self, RegistryError> {
        let places = origins
            .iter()
            .flat_map(|origin| places(&client.options, origin));
        let mut stream = Self {
            client,
            places: places.collect(),
            digest,
            size,
            done: offset,
            hasher: (offset == 0).then(Hasher::default),
            body: None,
            failures: 0,
        };
        stream.connect()?;
        Ok(stream)
    }

    fn connect(&mut self) -> Result<(), RegistryError> {
        let mut failure = None;
        for place in &self.places {
            match self.ask(place) {
                Ok(body) => {
                    self.body = Some(body);
                    return Ok(());
                }
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn ask(&self, place: &Reference) -> Result<Box<dyn Read + 'a>, RegistryError> {
        let action = blob_action(place, self.digest);
        let path = format!("{}/blobs/{}", place.repository, self.digest);
        let headers = [("range", format!("bytes={}-", self.done))];
        let call = Call {
            headers: if self.done > 0 { &headers } else { &[] },
            ..Call::get(&action, place, &path)
        };
        let answer = self.client.send(&call)?;
        let skip = match answer.status {
            206 if range_start(&answer) == Some(self.done) => 0,
            200 => self.done,
            201..=299 => {
                return Err(protocol(
                    &call,
                    "another range than was asked for".to_owned(),
                ));
            }
            _ => return Err(self.client.reject(&call, answer)),
        };
        let mut body = answer.into_reader();
        io::copy(&mut (&mut body).take(skip), &mut io::sink())
            .map_err(|error| transport(&call, error))?;
        Ok(Box::new(body))
    }

    /// What is wrong with the whole, once it is read.
    fn check(&mut self) -> io::Result<()> {
        let Some(hasher) = self.hasher.take() else {
            return Ok(());
        };
        let found = hasher.finish();
        if found == self.digest {
            return Ok(());
        }
        let (action, registry) = match self.places.first() {
            Some(place) => (blob_action(place, self.digest), place.registry.clone()),
            None => (String::new(), String::new()),
        };
        Err(io::Error::other(RegistryError::Content {
            action,
            registry,
            expected: self.digest,
            found,
            size: self.size,
        }))
    }
}

impl Read for BlobStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.done).unwrap_or(usize::MAX);
        let room = buffer.len().min(left);
        if room == 0 {
            return Ok(0);
        }
        loop {
            let broken = match &mut self.body {
                None => None,
                Some(body) => match body.read(&mut buffer[..room]) {
                    Ok(0) => Some(io::ErrorKind::UnexpectedEof.into()),
                    Ok(count) => {
                        self.failures = 0;
                        self.done += count as u64;
                        if let Some(hasher) = &mut self.hasher {
                            hasher.update(&buffer[..count]);
                        }
                        if self.done == self.size {
                            self.check()?;
                        }
                        return Ok(count);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Some(error),
                },
            };
            self.body = None;
            if let Some(error) = broken {
                self.failures += 1;
                if self.failures >= self.client.options.attempts() {
                    return Err(error);
                }
                let pause = self.client.options.retry_pause_ms;
                std::thread::sleep(retry::pause(self.failures, None, pause));
            }
            self.connect().map_err(io::Error::other)?;
        }
    }
}
