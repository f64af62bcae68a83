//! The server: iterations of prompts and decoding, one after the other.

use super::{
    COST, FIRST_TOKEN_PER_TOKEN_US, FIRST_TOKEN_US, KV_TOKENS, MAX_SEQUENCES, Row, Setup, TOKEN_US,
};
use gpuloom_sched::batch::{Batch, Batcher, Decoding, Former, Limits, Part, Request, Room};
use serde::Serialize;
use std::collections::BTreeMap;

/// What came of a replay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Requests of the trace.
    pub requests: usize,
    /// Those that were larger than the cache; they count as missing their service level.
    pub refused: usize,
    /// Requests that met their service level, percent.
    pub slo_attainment_pct: f64,
    /// Time to the first token, median, seconds.
    pub ttft_p50_s: f64,
    /// The same, 99th percentile.
    pub ttft_p99_s: f64,
    /// The same, longest.
    pub ttft_max_s: f64,
    /// Mean time of each further token of a request, median of requests, milliseconds.
    pub tpot_p50_ms: f64,
    /// The same, 99th percentile.
    pub tpot_p99_ms: f64,
    /// Real by padded prompt tokens, 0 to 1.
    pub token_efficiency: f64,
    /// Largest use of the KV cache, 0 to 1.
    pub kv_peak: f64,
    /// Requests that gave their cache back in the middle and were computed again.
    pub evictions: usize,
    /// Iterations.
    pub iterations: usize,
    /// From the first arrival to the last token, seconds.
    pub makespan_s: f64,
}

/// One iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Iteration {
    /// Prompt tokens, padding included.
    pub tokens: u64,
    /// Sequences that decoded.
    pub sequences: u64,
    /// What it took, in microseconds.
    pub time_us: u64,
}

/// Expected output before any request has ended, in tokens.
const FIRST_GUESS: u32 = 128;

/// A request whose prompt is computed.
#[derive(Debug, Clone)]
struct Stream {
    row: usize,
    /// Tokens generated.
    tokens: u32,
    first_us: u64,
    late: bool,
    /// KV tokens held.
    held: u64,
}

/// A request that gave its cache back.
#[derive(Debug, Clone, Copy)]
struct Evicted {
    tokens: u32,
    first_us: u64,
}

struct Server<'a> {
    rows: &'a [Row],
    arrivals: Vec<u64>,
    setup: &'a Setup,
    now: u64,
    next: usize,
    batcher: Batcher,
    streams: Vec<Stream>,
    /// KV tokens each request asks for when it starts.
    reserved: Vec<u64>,
    /// Requests whose prompt is being computed.
    started: u32,
    evicted: BTreeMap<usize, Evicted>,
    /// KV tokens of all that decode or have started.
    held: u64,
    /// Requests that ended and their outputs' sum: the next one's output is expected to be their mean.
    ended: (u64, u64),
    sum: Sum,
    log: Option<Vec<Iteration>>,
}

#[derive(Default)]
struct Sum {
    met: usize,
    refused: usize,
    evictions: usize,
    iterations: usize,
    kv_peak: u64,
    real: u64,
    padded: u64,
    ttft_us: Vec<u64>,
    tpot_us: Vec<u64>,
}

/// Replays the requests.
#[must_use]
pub fn run(rows: &[Row], setup: &Setup) -> Outcome {
    let mut server = Server::new(rows, setup);
    server.run();
    server.outcome()
}

/// The iterations of a replay, in order: what a latency predictor would see.
#[must_use]
pub fn iterations(rows: &[Row], setup: &Setup) -> Vec<Iteration> {
    let mut server = Server::new(rows, setup);
    server.log = Some(Vec::new());
    server.run();
    server.log.unwrap_or_default()
}

// === impl Server ===

impl<'a> Server<'a> {
    fn new(rows: &'a [Row], setup: &'a Setup) -> Self {
        let scaled = |r: &Row| {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "microseconds of a trace, not negative"
            )]
            let at = (r.arrival_us as f64 / setup.load) as u64;
            at
        };
        let limits = Limits {
            kv_tokens: KV_TOKENS,
        };
        Self {
            rows,
            arrivals: rows.iter().map(scaled).collect(),
            setup,
            now: 0,
            next: 0,
            batcher: Batcher::new(setup.former.clone(), limits),
            streams: Vec::new(),
            reserved: vec![0; rows.len()],
            started: 0,
            evicted: BTreeMap::new(),
            held: 0,
            ended: (0, 0),
            sum: Sum::default(),
            log: None,
        }
    }

    fn run(&mut self) {
        loop {
            self.admit();
            if self.batcher.is_empty() && self.streams.is_empty() {
                match self.arrivals.get(self.next) {
                    Some(at) => self.now = *at,
                    None => break,
                }
                continue;
            }
            let batch = self.form();
            if batch.is_none() && self.streams.is_empty() {
                // It pays to wait for company: until it comes, or the former's patience ends.
                let due = self.batcher.due_us().unwrap_or(self.now);
                let arrival = self.arrivals.get(self.next).copied().unwrap_or(u64::MAX);
                self.now = due.min(arrival).max(self.now + 1);
                continue;
            }
            self.iterate(batch);
        }
    }

    fn admit(&mut self) {
        while self
            .arrivals
            .get(self.next)
            .is_some_and(|at| *at <= self.now)
        {
            self.push(self.next, 0);
            self.next += 1;
        }
    }

    /// `generated` tokens of it are known and computed again with the prompt.
    fn push(&mut self, row: usize, generated: u32) {
        let r = &self.rows[row];
        if u64::from(r.prompt) + u64::from(r.output) > KV_TOKENS {
            self.sum.refused += 1;
            return;
        }
        let prompt = r.prompt + generated;
        let guess = match self.ended {
            (0, _) => FIRST_GUESS,
            (n, tokens) => u32::try_from(tokens / n).unwrap_or(u32::MAX).max(1),
        };
        let room = u32::try_from(KV_TOKENS)
            .unwrap_or(u32::MAX)
            .saturating_sub(prompt);
        let expected_output = guess.min(room);
        self.reserved[row] = u64::from(prompt) + u64::from(expected_output);
        let request = Request {
            id: row as u64,
            arrival_us: self.arrivals[row],
            prompt,
            expected_output,
            deadline_us: Some(self.due(row)),
            prefix: r.prefix.clone(),
        };
        if self.batcher.push(request).is_err() {
            self.sum.refused += 1;
        }
    }

    fn due(&self, row: usize) -> u64 {
        self.arrivals[row]
            + FIRST_TOKEN_US
            + FIRST_TOKEN_PER_TOKEN_US * u64::from(self.rows[row].prompt)
    }

    fn form(&mut self) -> Option<Batch> {
        let to_the_end = matches!(
            self.setup.former,
            Former::Fixed { .. } | Former::DelayWindow { .. }
        );
        if to_the_end && !self.streams.is_empty() {
            return None;
        }
        let decoding: Vec<Decoding> = self
            .streams
            .iter()
            .map(|s| Decoding {
                first_us: s.first_us,
                tokens: s.tokens - 1,
                late: s.late,
            })
            .collect();
        let active = u32::try_from(self.streams.len()).unwrap_or(u32::MAX) + self.started;
        let room = Room {
            sequences: MAX_SEQUENCES.saturating_sub(active),
            tokens: self.setup.chunk.tokens(&COST, self.now, &decoding),
            kv_tokens: KV_TOKENS.saturating_sub(self.held),
        };
        self.batcher.form(self.now, room)
    }

    fn iterate(&mut self, batch: Option<Batch>) {
        let (parts, report) = batch.map_or_else(Default::default, |b| (b.parts, b.report));
        let sequences = self.streams.len() as u64;
        let time_us = COST.time_us(report.padded_tokens, sequences);
        self.now += time_us;
        self.sum.iterations += 1;
        self.sum.real += report.real_tokens;
        self.sum.padded += report.padded_tokens;
        if let Some(log) = &mut self.log {
            log.push(Iteration {
                tokens: report.padded_tokens,
                sequences,
                time_us,
            });
        }
        for stream in &mut self.streams {
            stream.tokens += 1;
            let needs = u64::from(self.rows[stream.row].prompt) + u64::from(stream.tokens);
            self.held += needs.saturating_sub(stream.held);
            stream.held = stream.held.max(needs);
        }
        for part in parts {
            self.compute(part);
        }
        self.finish();
        self.make_room();
        self.sum.kv_peak = self.sum.kv_peak.max(self.held);
    }

    /// A part is computed; a prompt that is complete gives its next token.
    fn compute(&mut self, part: Part) {
        let row = usize::try_from(part.id).unwrap_or(usize::MAX);
        if part.from == 0 {
            self.started += 1;
            self.held += self.reserved[row];
        }
        if !part.last {
            return;
        }
        self.started -= 1;
        let back = self.evicted.remove(&row);
        if back.is_none() {
            self.sum.ttft_us.push(self.now - self.arrivals[row]);
        }
        let (tokens, first_us) = back.map_or((1, self.now), |e| (e.tokens + 1, e.first_us));
        self.streams.push(Stream {
            row,
            tokens,
            first_us,
            late: first_us > self.due(row),
            held: self.reserved[row],
        });
    }

    fn finish(&mut self) {
        let mut at = 0;
        while let Some(s) = self.streams.get(at) {
            let output = self.rows[s.row].output;
            if s.tokens < output {
                at += 1;
                continue;
            }
            let further = u64::from(output - 1);
            let spent = self.now - s.first_us;
            let in_time = spent <= further * TOKEN_US;
            self.sum.tpot_us.extend(spent.checked_div(further));
            self.sum.met += usize::from(!s.late && in_time);
            self.ended = (self.ended.0 + 1, self.ended.1 + u64::from(output));
            self.held -= s.held;
            self.streams.remove(at);
        }
    }

    /// Outputs that outgrew what was expected of them: the youngest give their cache back.
    fn make_room(&mut self) {
        while self.held > KV_TOKENS {
            let Some(s) = self.streams.pop() else {
                break;
            };
            self.held -= s.held;
            self.sum.evictions += 1;
            let evicted = Evicted {
                tokens: s.tokens,
                first_us: s.first_us,
            };
            self.evicted.insert(s.row, evicted);
            self.push(s.row, s.tokens);
        }
    }

    fn outcome(mut self) -> Outcome {
        self.sum.ttft_us.sort_unstable();
        self.sum.tpot_us.sort_unstable();
        let (ttft, tpot) = (&self.sum.ttft_us, &self.sum.tpot_us);
        Outcome {
            requests: self.rows.len(),
            refused: self.sum.refused,
            slo_attainment_pct: 100.0 * ratio(self.sum.met as u64, self.rows.len() as u64),
            ttft_p50_s: quantile(ttft, 500) / 1e6,
            ttft_p99_s: quantile(ttft, 990) / 1e6,
            ttft_max_s: quantile(ttft, 1000) / 1e6,
            tpot_p50_ms: quantile(tpot, 500) / 1e3,
            tpot_p99_ms: quantile(tpot, 990) / 1e3,
            token_efficiency: ratio(self.sum.real, self.sum.padded),
            kv_peak: ratio(self.sum.kv_peak, KV_TOKENS),
            evictions: self.sum.evictions,
            iterations: self.sum.iterations,
            makespan_s: number(self.now - self.arrivals.first().copied().unwrap_or(0)) / 1e6,
        }
    }
}

/// The value below which so many thousandths lie; 0 of none.
fn quantile(sorted: &[u64], permille: usize) -> f64 {
    let at = (sorted.len() * permille / 1000).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().map_or(0.0, number)
}

/// 0 of nothing.
fn ratio(part: u64, all: u64) -> f64 {
    if all == 0 {
        0.0
    } else {
        number(part) / number(all)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds and counts of a trace"
)]
fn number(n: u64) -> f64 {
    n as f64
}
