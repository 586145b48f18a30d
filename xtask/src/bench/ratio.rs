//! Medians of per-round ratios, so that drift of the machine falls out.

use serde::Serialize;

/// One workload's throughput per round, in transactions per second.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Rounds {
    pub(super) direct: Vec<f64>,
    pub(super) copy: Vec<f64>,
    pub(super) weir: Vec<f64>,
    pub(super) cpu: Vec<Cpu>,
}

/// Processor time of those on the path, seconds per 100,000 statements; `store` during Weir's run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Cpu {
    pub(super) copy: f64,
    pub(super) weir: f64,
    pub(super) store: f64,
}

/// What a table shows.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Ratios {
    pub(super) direct_tps: f64,
    pub(super) copy_to_direct: f64,
    pub(super) weir_to_direct: f64,
    pub(super) weir_to_copy: f64,
    pub(super) cpu: Cpu,
}

impl Rounds {
    pub(super) fn ratios(&self) -> Ratios {
        Ratios {
            direct_tps: median(self.direct.iter().copied()),
            copy_to_direct: median(quotients(&self.copy, &self.direct)),
            weir_to_direct: median(quotients(&self.weir, &self.direct)),
            weir_to_copy: median(quotients(&self.weir, &self.copy)),
            cpu: Cpu {
                copy: median(self.cpu.iter().map(|cpu| cpu.copy)),
                weir: median(self.cpu.iter().map(|cpu| cpu.weir)),
                store: median(self.cpu.iter().map(|cpu| cpu.store)),
            },
        }
    }
}

pub(super) fn quotients(above: &[f64], below: &[f64]) -> impl Iterator<Item = f64> {
    above.iter().zip(below).map(|(above, below)| above / below)
}

pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_per_round() {
        let rounds = Rounds {
            direct: vec![100.0, 200.0, 50.0],
            copy: vec![50.0, 100.0, 25.0],
            weir: vec![40.0, 90.0, 20.0],
            cpu: Vec::new(),
        };
        let ratios = rounds.ratios();
        assert!((ratios.copy_to_direct - 0.5).abs() < 1e-9);
        assert!((ratios.weir_to_direct - 0.4).abs() < 1e-9);
        assert!((median([1.0, 3.0].into_iter()) - 2.0).abs() < 1e-9);
    }
}
