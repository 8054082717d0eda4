//! Literals and matches are collected here until what follows is unlike what was: then they become a
//! block, with codes of its own.

use super::bits::BitWriter;
use super::block::{Block, put_empty};
use super::frequencies::Frequencies;
use super::ring::zeros;
use super::symbols::{END, Token};

/// Tokens after which is asked whether a new block begins.
const CHUNK: usize = 1024;
/// Tokens of a block at most; a power of two.
const TOKENS: usize = 1 << 16;
/// Tokens that may come before the next chunk is ended: it, and a buffer's last bytes.
const MARGIN: usize = CHUNK + 64;
/// What a new block's header takes, in bits, as far as the question whether to begin one goes.
const NEW_BLOCK: u64 = 700;

/// Makes blocks of what it is told about a buffer, from its begin to its end.
pub(super) struct Blocks {
    tokens: Box<[Token; TOKENS]>,
    count: usize,
    /// Of the block but its last chunk, which is not ended.
    block_tokens: usize,
    block_bytes: usize,
    block: Frequencies,
    entropy: u64,
    /// Bytes of the buffer that are in earlier blocks.
    done: usize,
    writer: BitWriter,
}

impl Blocks {
    pub(super) fn new() -> Self {
        Self {
            tokens: zeros(),
            count: 0,
            block_tokens: 0,
            block_bytes: 0,
            block: Frequencies::NONE,
            entropy: 0,
            done: 0,
            writer: BitWriter::default(),
        }
    }

    /// Begins with another buffer; `room` was used before.
    pub(super) fn begin(&mut self, room: Vec<u8>) {
        self.count = 0;
        self.block_tokens = 0;
        self.block_bytes = 0;
        self.block = Frequencies::NONE;
        self.entropy = 0;
        self.done = 0;
        self.writer = BitWriter::new(room);
    }

    #[inline]
    pub(super) fn literal(&mut self, byte: u8) {
        self.push(Token::literal(byte));
    }

    /// A match; `length` is 3 to 258, `distance` 1 to 32768.
    #[inline]
    pub(super) fn found(&mut self, length: u32, distance: u32) {
        self.push(Token::found(length, distance));
    }

    #[inline]
    fn push(&mut self, token: Token) {
        self.tokens[self.count % TOKENS] = token;
        self.count += 1;
    }

    /// Whether [`end_chunk`](Self::end_chunk) has to be called before anything else is told.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.count - self.block_tokens >= CHUNK
    }

    /// Joins the chunk to the block, or begins a new block with it. `at` is how far in the buffer it is.
    pub(super) fn end_chunk(&mut self, data: &[u8], at: usize) {
        let bytes = at - self.done - self.block_bytes;
        let chunk = Frequencies::of(&mut self.tokens[self.block_tokens..self.count]);
        let chunk_entropy = chunk.entropy();
        let mut both = chunk.clone();
        both.add(&self.block);
        let entropy = both.entropy();
        let is_unlike = self.entropy + chunk_entropy + NEW_BLOCK < entropy;
        if self.block_tokens > 0 && (is_unlike || self.count + MARGIN > TOKENS) {
            self.write_block(data);
            self.block = chunk;
            self.entropy = chunk_entropy;
            self.block_bytes = bytes;
        } else {
            self.block = both;
            self.entropy = entropy;
            self.block_bytes += bytes;
        }
        self.block_tokens = self.count;
    }

    /// Writes the block but its last chunk, whose tokens become the first.
    fn write_block(&mut self, data: &[u8]) {
        let end = self.done + self.block_bytes;
        self.block.literals[END] = 1;
        let tokens = &self.tokens[..self.block_tokens];
        Block::new(&self.block).write(tokens, &data[self.done..end], &mut self.writer);
        self.done = end;
        self.tokens.copy_within(self.block_tokens..self.count, 0);
        self.count -= self.block_tokens;
        self.block_tokens = 0;
    }

    /// What was made of the whole buffer: whole bytes, and no block of them is a final one.
    pub(super) fn finish(&mut self, data: &[u8]) -> Vec<u8> {
        if self.count > self.block_tokens {
            self.end_chunk(data, data.len());
        }
        if self.block_tokens > 0 {
            self.write_block(data);
        }
        let mut writer = std::mem::take(&mut self.writer);
        put_empty(&mut writer);
        writer.finish()
    }
}
