//! Measuring by pairs, for machines that are neither quiet nor equal: what is compared runs in turns within
//! milliseconds, so that a slow moment is slow for all. A round takes the median over many short blocks; the ratio is
//! formed round by round. Only ratios from one run mean something.

use std::time::{Duration, Instant};

/// Runs `work` once, with its time.
pub fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let value = work();
    (start.elapsed(), value)
}

/// The times of one thing over a run.
#[derive(Debug, Default)]
pub struct Series {
    block: Vec<f64>,
    rounds: Vec<f64>,
}

impl Series {
    /// Notes a block of `count` operations. An interruption makes one block slow and does not move their median.
    pub fn block(&mut self, time: Duration, count: usize) {
        self.block.push(time.as_secs_f64() * 1e9 / count.max(1) as f64);
    }

    /// Ends a round; `keep` is false while warming up.
    pub fn end_round(&mut self, keep: bool) {
        let blocks = std::mem::take(&mut self.block);
        if keep {
            self.rounds.push(median(&blocks));
        }
    }

    /// Nanoseconds per operation, round by round.
    pub fn rounds(&self) -> &[f64] {
        &self.rounds
    }

    /// Nanoseconds per operation.
    pub fn median(&self) -> f64 {
        median(&self.rounds)
    }
}

/// What one thing costs more than another that ran beside it, round by round.
pub fn added(with: &Series, without: &Series) -> Vec<f64> {
    pairs(with.rounds(), without.rounds(), |with, without| with - without)
}

fn pairs(a: &[f64], b: &[f64], of: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    a.iter().zip(b).map(|(&a, &b)| of(a, b)).collect()
}

/// The median; of nothing, not a number.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// A ratio over the rounds of a run.
#[derive(Debug, Clone, Copy)]
pub struct Ratio {
    /// Median of the rounds.
    pub median: f64,
    /// The luckiest round.
    pub min: f64,
    /// The unluckiest round.
    pub max: f64,
}

impl Ratio {
    /// `a / b`, round by round.
    pub fn of(a: &[f64], b: &[f64]) -> Self {
        let ratios = pairs(a, b, |a, b| a / b);
        Self {
            median: median(&ratios),
            min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            max: ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    /// Whether the median keeps a target.
    pub fn verdict(&self, at_most: f64) -> &'static str {
        if self.median <= at_most { "met" } else { "NOT met" }
    }
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:5.2} ({:.2} to {:.2})", self.median, self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_interrupted_block_does_not_move_a_round() {
        let mut series = Series::default();
        for nanos in [100, 100, 1_000_000] {
            series.block(Duration::from_nanos(nanos), 1);
        }
        series.end_round(true);
        assert!((series.median() - 100.0).abs() < 0.01);
    }

    #[test]
    fn ratios_are_formed_round_by_round() {
        let ratio = Ratio::of(&[2.0, 20.0, 60.0], &[1.0, 10.0, 20.0]);
        assert_eq!((ratio.median, ratio.min, ratio.max), (2.0, 2.0, 3.0));
        assert_eq!(ratio.verdict(2.0), "met");
        assert_eq!(ratio.verdict(1.9), "NOT met");
    }

    #[test]
    fn warm_up_rounds_do_not_count() {
        let mut series = Series::default();
        series.block(Duration::from_nanos(5), 1);
        series.end_round(false);
        assert!(series.rounds().is_empty());
    }
}
