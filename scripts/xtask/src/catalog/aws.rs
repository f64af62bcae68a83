//! EC2: machines and regions from moto's copies of DescribeInstanceTypes and DescribeInstanceTypeOfferings,
//! prices from karpenter-provider-aws.

use super::{Compiled, commit, facts, generated_at, pairs, price, read, read_bytes, row, source};
use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use gpuloom_cloud_catalog::{Availability, CloudKind, Row, Shape, Source, micro_usd};
use gpuloom_fleet::{Bytes, GpuModel, Market, MilliGpu};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

/// No list unpacks to as much.
const MAX_UNPACKED_BYTES: u64 = 256 << 20;

const FILES: [&str; 2] = [
    "pkg/providers/pricing/zz_generated.pricing_aws.go",
    "pkg/providers/pricing/zz_generated.pricing_aws_us_gov.go",
];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InstanceType {
    gpu_info: Option<GpuInfo>,
    v_cpu_info: VCpuInfo,
    memory_info: MemoryInfo,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GpuInfo {
    gpus: Vec<Gpu>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Gpu {
    name: String,
    manufacturer: String,
    count: u32,
    logical_gpu_count: Option<u32>,
    gpu_partition_size: Option<f64>,
    memory_info: MemoryInfo,
}

#[derive(Debug, Deserialize)]
struct VCpuInfo {
    #[serde(rename = "DefaultVCpus")]
    default: u32,
}

#[derive(Debug, Deserialize)]
struct MemoryInfo {
    #[serde(rename = "SizeInMiB")]
    mib: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Offered {
    instance_type: String,
    location: String,
}

type Shapes = BTreeMap<String, Arc<Shape>>;

pub(super) fn compile(karpenter: &Path, moto: &Path, moto_date: &str) -> Result<Compiled> {
    let about = "moto, ec2/resources (copies of EC2's DescribeInstanceTypes and DescribeInstanceTypeOfferings): machines and regions; (c) Steve Pulec and contributors, Apache-2.0";
    let moto_source = source("moto", moto_date, about.to_owned())?;
    let resources = moto.join("ec2/resources");
    let mut shapes = shapes(&resources, &moto_source)?;
    shapes.extend(facts::shapes(CloudKind::Aws)?);
    let mut rows = listed(&resources, &shapes)?;
    let mut compiled = Compiled {
        sources: vec![moto_source],
        ..Compiled::default()
    };
    for (name, file) in ["karpenter-aws", "karpenter-aws-gov"]
        .into_iter()
        .zip(FILES)
    {
        let text = read(&karpenter.join(file))?;
        let day = generated_at(&text).with_context(|| format!("{file} says when it was made"))?;
        let (head, _) = commit(karpenter, file)?;
        let about = format!(
            "github.com/aws/karpenter-provider-aws@{head} {file}: on-demand prices; (c) Amazon.com, Inc. or its affiliates, Apache-2.0"
        );
        let stated = source(name, day, about)?;
        let left_out = prices(&text, &stated, &shapes, &mut rows);
        compiled.sources.push(stated);
        compiled.left_out.extend(left_out);
    }
    compiled.rows = rows.into_values().collect();
    Ok(compiled)
}

fn unzipped<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = read_bytes(path)?;
    let unpacked = GzDecoder::new(bytes.as_slice()).take(MAX_UNPACKED_BYTES);
    serde_json::from_reader(unpacked).with_context(|| format!("{} reads", path.display()))
}

fn shapes(resources: &Path, source: &Source) -> Result<Shapes> {
    let types: BTreeMap<String, InstanceType> =
        unzipped(&resources.join("instance_types.json.gz"))?;
    let mut shapes = BTreeMap::new();
    for (name, machine) in types {
        let Some(gpu) = machine.gpu_info.as_ref().and_then(|info| info.gpus.first()) else {
            continue;
        };
        let shape = shape(gpu, &machine, source).with_context(|| name.clone())?;
        shapes.insert(name, Arc::new(shape));
    }
    Ok(shapes)
}

fn shape(gpu: &Gpu, machine: &InstanceType, source: &Source) -> Result<Shape> {
    let model = model(gpu)?;
    let part = part(gpu);
    let stated = Bytes::mib(gpu.memory_info.mib);
    Ok(Shape {
        // What the model is sold with: EC2 states what the driver leaves of it for some.
        gpu_memory: model.memory().filter(|_| part.0 == 1000).unwrap_or(stated),
        model,
        gpus: gpu.logical_gpu_count.unwrap_or(gpu.count).max(1),
        part,
        vcpus: machine.v_cpu_info.default,
        memory: Bytes::mib(machine.memory_info.mib),
        source: Arc::clone(&source.name),
        at: source.at,
    })
}

/// Eighths, quarters, halves and wholes.
fn part(gpu: &Gpu) -> MilliGpu {
    let size = gpu.gpu_partition_size.unwrap_or(1.0);
    let fits = |thousandths: u32| (f64::from(thousandths) - size * 1000.0).abs() < 0.5;
    (1..=1000)
        .find(|n| fits(*n))
        .map_or(MilliGpu::ONE, |n| MilliGpu(u64::from(n)))
}

/// The short name that a node reports for EC2's name.
fn model(gpu: &Gpu) -> Result<GpuModel> {
    let gib = gpu.memory_info.mib / 1024;
    let name = match gpu.name.as_str() {
        "A100" | "V100" => format!("{}-{gib}G", gpu.name),
        "T4g" => "T4G".to_owned(),
        "RTX PRO Server 6000" => facts::RTX_PRO_6000.to_owned(),
        name if gpu.manufacturer == "NVIDIA" => name.to_owned(),
        name => name.replace(' ', "-"),
    };
    Ok(GpuModel::new(name)?)
}

/// A row for each region that lists a machine.
fn listed(resources: &Path, shapes: &Shapes) -> Result<BTreeMap<(String, String), Row>> {
    let dir = resources.join("instance_type_offerings/region");
    let mut rows = BTreeMap::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("{} is there", dir.display()))? {
        let offered: Vec<Offered> = unzipped(&entry?.path())?;
        for Offered {
            instance_type: name,
            location: region,
        } in offered
        {
            if let Some(shape) = shapes.get(&name) {
                let place = (CloudKind::Aws, region.as_str(), name.as_str());
                let row = row(place, shape, Availability::Listed);
                rows.insert((region.clone(), name), row);
            }
        }
    }
    Ok(rows)
}

/// Adds the prices of `text`; returns the GPU machines whose GPUs nobody states.
fn prices(
    text: &str,
    source: &Source,
    shapes: &Shapes,
    rows: &mut BTreeMap<(String, String), Row>,
) -> BTreeSet<String> {
    let mut left_out = BTreeSet::new();
    let mut region = String::new();
    for (name, number) in text.lines().flat_map(pairs) {
        if number == "{" {
            name.clone_into(&mut region);
            continue;
        }
        let Some(shape) = shapes.get(name) else {
            let family = name.split('.').next().unwrap_or(name);
            let gpus = ["g2", "g7", "p6e"].iter().any(|p| family.starts_with(p));
            if gpus {
                left_out.insert(name.to_owned());
            }
            continue;
        };
        let Some(hourly) = micro_usd(number).filter(|p| p.0 > 0) else {
            continue;
        };
        let place = (CloudKind::Aws, region.as_str(), name);
        let key = (region.clone(), name.to_owned());
        let row = rows
            .entry(key)
            .or_insert_with(|| row(place, shape, Availability::Priced));
        row.on_demand = Some(price(hourly, Market::OnDemand, source.at, &source.name));
    }
    left_out
}
