//! Offerings as they are typed for, and as they are shown.

use super::*;
use clap::Parser as _;

const NOW: Millis = Millis(1_790_000_000_000);

#[derive(Debug, clap::Parser)]
struct Typed {
    #[command(flatten)]
    args: OfferingsArgs,
}

fn typed(more: &[&str]) -> Result<OfferingsArgs, String> {
    let all = ["offerings"].into_iter().chain(more.iter().copied());
    Typed::try_parse_from(all)
        .map(|t| t.args)
        .map_err(|e| e.to_string())
}

async fn run(more: &[&str], as_json: bool) -> (String, String) {
    let dir = tempfile::tempdir().expect("a folder");
    let mut args = typed(more).expect("can be typed");
    args.price_cache
        .get_or_insert_with(|| dir.path().join("prices.json"));
    let (mut out, mut warn) = (Vec::new(), Vec::new());
    let done = offerings(&args, as_json, NOW, &mut out, &mut warn).await;
    done.expect("offerings are shown");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (text(out), text(warn))
}

#[tokio::test]
async fn a_table_has_a_line_for_each_and_marks_what_is_unknown() {
    let (table, warned) = run(
        &[
            "--cloud",
            "aws",
            "--region",
            "us-east-1",
            "--gpu",
            "T4",
            "--count",
            "1",
        ],
        false,
    )
    .await;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("CLOUD  REGION"), "{table}");
    assert!(
        lines[1].contains("g4dn.xlarge") && lines[1].contains("$0.526"),
        "{table}"
    );
    assert!(
        lines[1..]
            .iter()
            .all(|l| l.contains("1 x T4") && l.contains(" -  ")),
        "{table}"
    );
    assert_eq!(warned, "");
    let (table, _) = run(
        &["--region", "eu-west-1", "--gpu", "A10G", "--limit", "2"],
        false,
    )
    .await;
    assert_eq!(table.lines().count(), 3, "{table}");
}

#[tokio::test]
async fn json_has_the_data_sources_names_and_exact_numbers() {
    let (text, _) = run(
        &[
            "--cloud",
            "gcp",
            "--region",
            "us-central1",
            "--market",
            "spot",
            "--sort",
            "gib",
            "--fractions",
        ],
        true,
    )
    .await;
    let document: Value = serde_json::from_str(&text).expect("one JSON document");
    let all = document["offerings"].as_array().expect("a list");
    assert!(all.len() > 20);
    let per_gib: Vec<f64> = all
        .iter()
        .map(|o| o["spot_per_gib_hour_usd"].as_f64().expect("known"))
        .collect();
    assert!(per_gib.is_sorted(), "{per_gib:?}");
    let part = all
        .iter()
        .find(|o| o["instance_type"] == "g4-standard-6")
        .expect("a fraction");
    assert_eq!(part["gpu_fraction"].to_string(), "0.125");
    assert_eq!(part["gpu_memory_gib"].to_string(), "12");
    assert!(part["zone"].is_null());
    assert_eq!(part["on_demand_price_source"], "karpenter-gcp");
}

#[tokio::test]
async fn kept_prices_count_and_a_broken_file_is_a_warning() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("prices.json");
    let quote = gpuloom_cloud_catalog::Quote {
        cloud: CloudKind::Aws,
        region: "us-east-1".to_owned(),
        instance_type: "g4dn.xlarge".to_owned(),
        market: Market::Spot,
        hourly: gpuloom_fleet::MicroUsd(157_800),
        at: NOW,
        source: "ec2".to_owned(),
    };
    Cache::at(&path).store(&[quote], NOW).expect("kept");
    let typed = [
        "--instance-type",
        "g4dn.xlarge",
        "--region",
        "us-east-1",
        "--price-cache",
    ];
    let shown = path.display().to_string();
    let all: Vec<&str> = typed.into_iter().chain([shown.as_str()]).collect();
    let (table, warned) = run(&all, false).await;
    assert!(table.contains("$0.1578") && warned.is_empty(), "{table}");
    std::fs::write(&path, "[").expect("written");
    let (table, warned) = run(&all, false).await;
    assert!(
        table.contains("$0.526") && warned.contains("remove it"),
        "{warned}"
    );
}

#[test]
fn what_does_not_fit_together_is_refused() {
    for (more, says) in [
        (&["--live"][..], "--cloud"),
        (&["--live", "--cloud", "aws"], "--region"),
        (&["--at", "aws:us-east-1"], "--gpu"),
        (&["--cloud", "ibm"], "is not \"aws\""),
        (&["--count", "0"], "0 is not in 1..=64"),
        (&["--market", "cheap"], "on-demand"),
        (&["--min-gpu-memory", "lots"], "lots"),
    ] {
        let error = typed(more).expect_err("refused");
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn numbers_are_exact() {
    for (micros, text) in [
        (0u128, "0"),
        (526_000, "0.526"),
        (12_000_000, "12"),
        (1, "0.000001"),
    ] {
        assert_eq!(number(micros).to_string(), text);
    }
}
