//! The openb benchmark (Weng et al., ATC'23): pods arrive in random order until they ask for 130% of the GPUs;
//! none leaves; one that does not fit is dropped. How many GPUs stay unallocated?

use crate::chance::Chance;
use crate::table::{Table, TraceError};
use gpuloom_sched::place::{Mix, Models, Placer, Room, Scoring, Shape, WHOLE};
use serde::Serialize;
use std::collections::BTreeMap;

/// At which arrived demand, in percent of the GPUs, the unallocated ones are counted.
pub const MARKS: [u32; 6] = [80, 90, 95, 100, 115, 130];
/// Pods are drawn again until they ask for so much of the GPUs, in percent.
const ARRIVE_PCT: u64 = 130;
/// Most GPU models of a trace.
const MAX_MODELS: usize = 64;

/// A trace: the nodes and the pods that arrive.
#[derive(Debug, Clone)]
pub struct Trace {
    /// Empty nodes.
    pub nodes: Vec<Room>,
    /// Pods, by name.
    pub pods: Vec<Shape>,
}

/// What came of one run.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// The seed of the order.
    pub seed: u64,
    /// Unallocated GPU share in percent, at each of [`MARKS`].
    pub unallocated_pct: [f64; 6],
    /// Pods that arrived.
    pub arrived: usize,
    /// Of those, how many were placed.
    pub placed: usize,
}

// === impl Trace ===

impl Trace {
    /// Reads the two tables in their published layouts: nodes as
    /// `sn,cpu_milli,memory_mib,gpu,model`, pods as `name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec`
    /// and whatever columns follow.
    ///
    /// # Errors
    /// [`TraceError`] names the column or the line that does not read.
    pub fn read(nodes: &str, pods: &str) -> Result<Self, TraceError> {
        let mut models: BTreeMap<String, u8> = BTreeMap::new();
        let nodes = read_nodes(nodes, &mut models)?;
        let pods = read_pods(pods, &models)?;
        Ok(Self { nodes, pods })
    }

    /// GPU share of all nodes, in thousandths.
    #[must_use]
    pub fn capacity_milli(&self) -> u64 {
        self.nodes.iter().map(|n| u64::from(n.free_milli())).sum()
    }

    /// What is typical of the pods.
    #[must_use]
    pub fn mix(&self) -> Mix {
        let mut work = BTreeMap::new();
        for pod in &self.pods {
            *work.entry(*pod).or_insert(0) += 1;
        }
        Mix::of(&work, self.nodes.iter())
    }

    /// The pods in the order of `seed`, drawn again at random until they ask for 130% of the GPUs.
    #[must_use]
    pub fn arrivals(&self, seed: u64) -> Vec<Shape> {
        let mut chance = Chance::new(seed);
        let mut order = self.pods.clone();
        chance.shuffle(&mut order);
        let enough = self.capacity_milli() * ARRIVE_PCT / 100;
        let mut asked: u64 = order.iter().map(|p| u64::from(p.gpu_milli())).sum();
        let can_end = self.pods.iter().any(|p| p.gpus > 0);
        while asked < enough && can_end {
            let pod = self.pods[chance.below(self.pods.len())];
            asked += u64::from(pod.gpu_milli());
            order.push(pod);
        }
        order
    }

    /// One run.
    #[must_use]
    pub fn run(&self, scoring: Scoring, seed: u64) -> Run {
        self.run_timed(scoring, seed, |placer, pod| placer.place(pod).is_some())
    }

    /// One run in which `place` places each pod; it may look at a clock, which this crate does not.
    pub fn run_timed(
        &self,
        scoring: Scoring,
        seed: u64,
        mut place: impl FnMut(&mut Placer, &Shape) -> bool,
    ) -> Run {
        let capacity = self.capacity_milli();
        let mut placer = Placer::new(scoring, self.mix());
        for node in &self.nodes {
            placer.add(node.clone());
        }
        let order = self.arrivals(seed);
        let mut run = Run {
            seed,
            unallocated_pct: [0.0; 6],
            arrived: order.len(),
            placed: 0,
        };
        let (mut asked, mut allocated, mut mark) = (0u64, 0u64, 0);
        for pod in &order {
            asked += u64::from(pod.gpu_milli());
            if place(&mut placer, pod) {
                run.placed += 1;
                allocated += u64::from(pod.gpu_milli());
            }
            while mark < MARKS.len() && asked * 100 >= capacity * u64::from(MARKS[mark]) {
                run.unallocated_pct[mark] = unallocated_pct(allocated, capacity);
                mark += 1;
            }
        }
        for last in &mut run.unallocated_pct[mark..] {
            *last = unallocated_pct(allocated, capacity);
        }
        run
    }
}

/// Mean and standard deviation (of the sample) over runs, at each of [`MARKS`].
#[must_use]
pub fn summary(runs: &[Run]) -> [(f64, f64); 6] {
    std::array::from_fn(|m| {
        let n = f64::from(u32::try_from(runs.len()).unwrap_or(u32::MAX));
        let mean = runs.iter().map(|r| r.unallocated_pct[m]).sum::<f64>() / n.max(1.0);
        let squares = runs.iter().map(|r| (r.unallocated_pct[m] - mean).powi(2));
        (mean, (squares.sum::<f64>() / (n - 1.0).max(1.0)).sqrt())
    })
}

fn unallocated_pct(allocated: u64, capacity: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a percentage of at most a billion GPUs"
    )]
    let part = allocated as f64 / capacity.max(1) as f64;
    100.0 - 100.0 * part
}

fn read_nodes(text: &str, models: &mut BTreeMap<String, u8>) -> Result<Vec<Room>, TraceError> {
    let table = Table::read("nodes", text)?;
    let (cpu, memory) = (table.column("cpu_milli")?, table.column("memory_mib")?);
    let (gpu, model) = (table.column("gpu")?, table.column("model")?);
    let mut nodes = Vec::with_capacity(table.rows.len());
    for row in 0..table.rows.len() {
        let gpus: usize = table.number(row, gpu, "gpu")?;
        let name = table.text(row, model).to_owned();
        let next = u8::try_from(models.len()).unwrap_or(u8::MAX);
        let wrong = |column, value: &str, expected| TraceError::Value {
            table: "nodes",
            line: row + 2,
            column,
            value: value.to_owned(),
            expected,
        };
        if gpus > gpuloom_sched::place::MAX_GPUS {
            return Err(wrong("gpu", table.text(row, gpu), "a number up to 64"));
        }
        let number = *models.entry(name.clone()).or_insert(next);
        if usize::from(number) >= MAX_MODELS {
            return Err(wrong("model", &name, "one of at most 64 models"));
        }
        nodes.push(Room {
            cpu_milli: table.number(row, cpu, "cpu_milli")?,
            memory_mib: table.number(row, memory, "memory_mib")?,
            model: number,
            gpus: vec![WHOLE; gpus],
        });
    }
    Ok(nodes)
}

fn read_pods(text: &str, models: &BTreeMap<String, u8>) -> Result<Vec<Shape>, TraceError> {
    let table = Table::read("pods", text)?;
    let name = table.column("name")?;
    let (cpu, memory) = (table.column("cpu_milli")?, table.column("memory_mib")?);
    let (gpus, share) = (table.column("num_gpu")?, table.column("gpu_milli")?);
    let spec = table.optional("gpu_spec");
    let mut pods = Vec::with_capacity(table.rows.len());
    for row in 0..table.rows.len() {
        let gpus: u8 = table.number(row, gpus, "num_gpu")?;
        let share_milli: u16 = table.number(row, share, "gpu_milli")?;
        if gpus > 0 && !(1..=WHOLE).contains(&share_milli) {
            return Err(TraceError::Value {
                table: "pods",
                line: row + 2,
                column: "gpu_milli",
                value: share_milli.to_string(),
                expected: "1 to 1000",
            });
        }
        let wanted = spec.map_or("", |at| table.text(row, at));
        let allowed = wanted.split('|').filter_map(|m| models.get(m));
        pods.push((
            table.text(row, name).to_owned(),
            Shape {
                cpu_milli: table.number(row, cpu, "cpu_milli")?,
                memory_mib: table.number(row, memory, "memory_mib")?,
                gpus,
                share_milli: if gpus == 0 { 0 } else { share_milli },
                models: if wanted.is_empty() {
                    Models::ANY
                } else {
                    Models(allowed.fold(0, |set, m| set | 1 << m))
                },
            },
        ));
    }
    pods.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(pods.into_iter().map(|(_, shape)| shape).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = "sn,cpu_milli,memory_mib,gpu,model\n\
        a,32000,131072,2,T4\nb,32000,131072,2,T4\nc,96000,393216,8,G2\n";
    const PODS: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos\n\
        p1,4000,8192,1,1000,,LS\np2,4000,8192,1,500,T4,LS\np3,1000,1024,0,0,,BE\np4,8000,16384,2,1000,G2|T4,LS\n";

    #[test]
    fn a_run_is_the_same_for_the_same_seed_and_allocates_most() {
        let trace = Trace::read(NODES, PODS).expect("reads");
        let run = trace.run(Scoring::FragmentationAware, 42);
        let again = trace.run(Scoring::FragmentationAware, 42);
        assert_eq!(run.unallocated_pct, again.unallocated_pct);
        assert!(run.unallocated_pct[5] < 15.0, "{run:?}");
        assert!(run.unallocated_pct[0] >= run.unallocated_pct[5]);
        let [.., (mean, sd)] = summary(&[run, again]);
        assert!(mean < 15.0 && sd < 1e-9);
    }

    #[test]
    fn columns_are_found_by_name_and_a_wrong_value_by_line() {
        let short = "name,num_gpu,gpu_milli,cpu_milli,memory_mib\nx,1,250,1,1\n";
        let trace = Trace::read(NODES, short).expect("reads");
        assert_eq!(trace.pods[0].share_milli, 250);
        let wrong = Trace::read(
            NODES,
            "name,cpu_milli,memory_mib,num_gpu,gpu_milli\nx,1,1,1,2000\n",
        );
        let text = wrong.expect_err("is refused").to_string();
        assert_eq!(
            text,
            "line 2 of the pods: gpu_milli = \"2000\" is not 1 to 1000"
        );
        let wrong = Trace::read("sn,cpu_milli,gpu,model\na,1,1,T4\n", PODS);
        let text = wrong.expect_err("is refused").to_string();
        assert!(text.contains("\"memory_mib\""), "{text}");
        let none = Trace::read("sn,cpu_milli,memory_mib,gpu,model\n", PODS);
        assert!(none.expect_err("is refused").to_string().contains("0 rows"));
    }
}
