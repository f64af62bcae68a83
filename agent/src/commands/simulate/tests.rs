use super::*;
use clap::Parser;

#[derive(Debug, Parser)]
struct Typed {
    #[command(flatten)]
    args: SimulateArgs,
}

fn run(folder: &Path, line: &str, as_json: bool) -> Result<String, String> {
    let words = line.split(' ').map(|w| match w.strip_prefix('@') {
        Some(file) => folder.join(file).display().to_string(),
        None => w.to_owned(),
    });
    let typed = Typed::try_parse_from(words).map_err(|e| e.to_string())?;
    let mut out = Vec::new();
    simulate(&typed.args, as_json, &mut out).map_err(|e| e.to_string())?;
    Ok(String::from_utf8(out).expect("text"))
}

fn traces() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let put = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("is written");
    };
    put(
        "nodes.csv",
        "sn,cpu_milli,memory_mib,gpu,model\na,64000,262144,2,T4\nb,96000,393216,8,G2\n",
    );
    put(
        "pods.csv",
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\np,4000,8192,1,1000,\nq,4000,8192,1,500,T4\n",
    );
    put(
        "jobs.csv",
        "arrival_s,duration_s_v100,gpus\n0,7200,4\n60,600,4\n120,60,64\n",
    );
    folder
}

#[test]
fn openb_prints_what_stays_unallocated_as_a_table_and_as_json() {
    let folder = traces();
    let line = "x openb --nodes @nodes.csv --pods @pods.csv --seeds 3";
    let table = run(folder.path(), line, false).expect("replays");
    assert!(
        table.starts_with("2 nodes with 10 GPUs, 2 pods, 3 orders"),
        "{table}"
    );
    let text = run(folder.path(), line, true).expect("replays");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["placement"], "fragmentation-aware");
    assert_eq!(json["runs"].as_array().map(Vec::len), Some(3));
    assert_eq!(json["summary"][3]["arrived_pct"], 100);
    assert_eq!(run(folder.path(), line, true), Ok(text), "the same again");
}

#[test]
fn philly_compares_orders_and_leaves_out_what_does_not_fit() {
    let folder = traces();
    let table = run(folder.path(), "x philly --jobs @jobs.csv --gpus 4", false).expect("replays");
    assert_eq!(table.lines().count(), 3 + 5, "{table}");
    let one = "x philly --jobs @jobs.csv --gpus 4 --policy learned";
    let text = run(folder.path(), one, true).expect("replays");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["policies"][0]["figures"]["jobs"], 2);
}

#[test]
fn bad_input_is_named() {
    let folder = traces();
    let told = |line: &str| run(folder.path(), line, false).expect_err("is refused");
    let missing = told("x philly --jobs @nowhere.csv --gpus 4");
    assert!(
        missing.starts_with("cannot read ") && missing.contains("nowhere.csv"),
        "{missing}"
    );
    let layout = told("x philly --jobs @pods.csv --gpus 4");
    assert!(layout.contains("\"arrival_s\""), "{layout}");
    let small = told("x philly --jobs @jobs.csv --gpus 1");
    assert!(small.contains("--gpus 1"), "{small}");
    let levels = told("x philly --jobs @jobs.csv --gpus 4 --levels 0,1");
    assert!(levels.contains("--levels"), "{levels}");
}
