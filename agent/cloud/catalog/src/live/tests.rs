//! The three lists in the shape they have, answered by a server on this machine.

use super::testing::{Answer, Server};
use super::*;
use crate::packed::unpack;
use gpuloom_fleet::{Market, MicroUsd};

const NOW: Millis = Millis(1_795_000_000_000);

const CATALOG: &str = "\
source docs 2026-01-01 x
type aws g4dn.xlarge T4 1 1000 16384 4 16384 docs
type aws p5.48xlarge H100 8 1000 81920 192 2097152 docs
type azure Standard_NC4as_T4_v3 T4 1 1000 16384 4 28672 docs
type azure Standard_ND96isr_H100_v5 H100 8 1000 81920 96 1945600 docs
type gcp a2-highgpu-1g A100-40G 1 1000 40960 12 87040 docs
type gcp a3-highgpu-8g H100 8 1000 81920 208 1916928 docs
";

fn catalog() -> Catalog {
    unpack(CATALOG).expect("reads")
}

fn scope(cloud: CloudKind, region: &str) -> Scope {
    Scope {
        cloud,
        region: region.to_owned(),
    }
}

fn prices(base: &str) -> LivePrices {
    LivePrices::new(LiveOptions {
        azure: base.to_owned(),
        aws: format!("{base}/"),
        gcp: base.to_owned(),
        gcp_api_key: Some("kept-secret".to_owned()),
        timeout: Duration::from_secs(20),
    })
    .expect("a client")
}

async fn ask(server: &Server, cloud: CloudKind, region: &str) -> Refreshed {
    let scopes = [scope(cloud, region)];
    prices(&server.base).refresh(&catalog(), &scopes, NOW).await
}

fn shown(refreshed: &Refreshed) -> Vec<(String, Market, u64)> {
    let quotes = refreshed.quotes.iter();
    quotes
        .map(|q| (q.instance_type.clone(), q.market, q.hourly.0))
        .collect()
}

fn failure(refreshed: &Refreshed) -> String {
    assert!(refreshed.quotes.is_empty(), "{:?}", refreshed.quotes);
    let [(_, error)] = &refreshed.failed[..] else {
        unreachable!("one failure, not {:?}", refreshed.failed);
    };
    say(error)
}

/// A meter of Azure's list; `more` replaces fields.
fn meter(sku: &str, sku_name: &str, price: &str, more: &[(&str, &str)]) -> String {
    let mut fields = serde_json::json!({
        "currencyCode": "USD", "tierMinimumUnits": 0.0, "armRegionName": "eastus",
        "location": "US East", "effectiveStartDate": "2024-01-01T00:00:00Z",
        "meterId": "00000000-0000-0000-0000-000000000000", "meterName": sku_name,
        "productId": "DZH318Z0CSHJ", "skuId": "DZH318Z0CSHJ/01NP",
        "productName": "Virtual Machines NCasT4_v3 Series", "skuName": sku_name,
        "serviceName": "Virtual Machines", "serviceFamily": "Compute",
        "unitOfMeasure": "1 Hour", "type": "Consumption",
        "isPrimaryMeterRegion": true, "armSkuName": sku
    });
    for (key, value) in more {
        fields[*key] = serde_json::Value::from(*value);
    }
    let text = fields.to_string();
    let mut text = text.trim_end_matches('}').to_owned();
    text.push_str(&format!(",\"retailPrice\":{price},\"unitPrice\":{price}}}"));
    text
}

fn page(meters: &[String], next: &str) -> String {
    let items = meters.join(",");
    format!(
        "{{\"BillingCurrency\":\"USD\",\"Items\":[{items}],\"NextPageLink\":{next},\"Count\":1}}"
    )
}

#[tokio::test]
async fn azure_pages_are_followed_and_only_linux_machines_count() {
    let t4 = "Standard_NC4as_T4_v3";
    let windows = [("productName", "Virtual Machines NCasT4_v3 Series Windows")];
    let cloud_service = [("productName", "NCasT4_v3 Series Cloud Services")];
    let first = [
        meter(t4, "NC4as T4 v3", "0.526", &[]),
        meter(t4, "NC4as T4 v3", "0.71", &windows),
        meter(t4, "NC4as T4 v3 Low Priority", "0.1", &[]),
        meter(t4, "NC4as T4 v3", "9.9", &cloud_service),
        meter(t4, "NC4as T4 v3", "0.3", &[("type", "Reservation")]),
        meter(t4, "NC4as T4 v3", "3.1", &[("unitOfMeasure", "1 Day")]),
        meter(
            t4,
            "NC4as T4 v3",
            "0.6",
            &[("effectiveStartDate", "2099-01-01T00:00:00Z")],
        ),
        meter(t4, "NC4as T4 v3", "0.2", &[("armRegionName", "westus")]),
        meter(t4, "NC4as T4 v3", "0.5", &[("currencyCode", "EUR")]),
        meter("Standard_D2_v2", "D2 v2", "0.114", &[]),
    ];
    let second = [
        meter(t4, "NC4as T4 v3 Spot", "0.05260000", &[]),
        meter(
            t4,
            "NC4as T4 v3",
            "0.4",
            &[("effectiveStartDate", "2020-01-01T00:00:00Z")],
        ),
        meter("Standard_ND96isr_H100_v5", "ND96isrH100v5", "0", &[]),
    ];
    let (first, second) = (
        page(&first, "\"{base}/api/retail/prices?$skip=1000\""),
        page(&second, "null"),
    );
    let server = Server::start(move |target| {
        let body = if target.contains("skip=1000") {
            &second
        } else {
            &first
        };
        Some(Answer::Whole(200, body.clone()))
    })
    .await;
    let refreshed = ask(&server, CloudKind::Azure, "eastus").await;
    assert!(refreshed.failed.is_empty(), "{:?}", refreshed.failed);
    let t4 = t4.to_owned();
    assert_eq!(
        shown(&refreshed),
        [
            (t4.clone(), Market::OnDemand, 526_000),
            (t4, Market::Spot, 52_600)
        ]
    );
    assert_eq!(refreshed.quotes[0].at, NOW);
    let heads = server.heads();
    assert_eq!(heads.len(), 2);
    assert!(
        heads[0].contains("eastus") && heads[0].contains("api-version="),
        "{heads:?}"
    );
}

#[tokio::test]
async fn a_broken_page_of_azures_list_costs_the_whole_region_and_no_other() {
    let good = page(&[meter("Standard_NC4as_T4_v3", "x", "0.5", &[])], "null");
    let first = page(
        &[meter("Standard_NC4as_T4_v3", "x", "0.5", &[])],
        "\"{base}/api/retail/prices?page=2\"",
    );
    for (second, says) in [
        (
            Answer::Whole(200, "{\"Items\":[{".to_owned()),
            "not a page of prices",
        ),
        (Answer::Whole(200, "{}".to_owned()), "not a page of prices"),
        (Answer::Whole(429, String::new()), "status 429"),
        (Answer::Broken("{\"Items\":[".to_owned()), "no answer"),
    ] {
        let (first, good) = (first.clone(), good.replace("eastus", "westus"));
        let server = Server::start(move |target| {
            Some(if target.contains("westus") {
                Answer::Whole(200, good.clone())
            } else if target.contains("page=2") {
                second.clone()
            } else {
                Answer::Whole(200, first.clone())
            })
        })
        .await;
        let scopes = [
            scope(CloudKind::Azure, "eastus"),
            scope(CloudKind::Azure, "westus"),
        ];
        let refreshed = prices(&server.base).refresh(&catalog(), &scopes, NOW).await;
        assert_eq!(refreshed.failed.len(), 1, "{says}");
        assert_eq!(refreshed.failed[0].0, scopes[0]);
        let said = say(&refreshed.failed[0].1);
        assert!(said.contains(says), "{said}");
        let regions: Vec<&str> = refreshed.quotes.iter().map(|q| q.region.as_str()).collect();
        assert_eq!(regions, ["westus"]);
    }
}

#[tokio::test]
async fn a_list_does_not_send_us_to_another_server_or_in_circles() {
    let away = page(&[], "\"http://192.0.2.1/api/retail/prices?$skip=1\"");
    let server = Server::start(move |_| Some(Answer::Whole(200, away.clone()))).await;
    let said = failure(&ask(&server, CloudKind::Azure, "eastus").await);
    assert!(said.contains("not on the same server"), "{said}");

    let circle = page(&[], "\"{base}/api/retail/prices?again\"");
    let server = Server::start(move |_| Some(Answer::Whole(200, circle.clone()))).await;
    let said = failure(&ask(&server, CloudKind::Azure, "eastus").await);
    assert!(said.contains("more than 400 pages"), "{said}");
    assert_eq!(server.heads().len(), MAX_PAGES);

    let server = Server::start(|_| Some(Answer::Redirect("/again".to_owned()))).await;
    let said = failure(&ask(&server, CloudKind::Azure, "eastus").await);
    assert!(said.contains("no answer"), "{said}");
}

#[tokio::test]
async fn a_list_that_does_not_answer_is_given_up() {
    let server = Server::start(|_| Some(Answer::Silence)).await;
    let mut live = prices(&server.base);
    live.options.timeout = Duration::from_millis(50);
    for cloud in CloudKind::ALL {
        let scopes = [scope(cloud, "eastus")];
        let refreshed = live.refresh(&catalog(), &scopes, NOW).await;
        let said = failure(&refreshed);
        assert!(said.contains("not done within"), "{said}");
    }
}

const HEADING: &str = "\"FormatVersion\",\"v1.0\"\n\"Disclaimer\",\"This pricing list is for informational purposes only.\"\n\"Publication Date\",\"2026-11-20T20:00:00Z\"\n\"Version\",\"20261120\"\n\"OfferCode\",\"AmazonEC2\"\n";

const COLUMNS: [&str; 13] = [
    "SKU",
    "TermType",
    "PriceDescription",
    "Unit",
    "PricePerUnit",
    "Currency",
    "Instance Type",
    "Tenancy",
    "Operating System",
    "CapacityStatus",
    "Pre Installed S/W",
    "Region Code",
    "MarketOption",
];

fn line(fields: &[&str]) -> String {
    let quoted: Vec<String> = fields.iter().map(|f| format!("\"{f}\"")).collect();
    quoted.join(",") + "\n"
}

/// A row of AWS's offer file; `more` replaces fields.
fn offer(name: &str, price: &str, more: &[(&str, &str)]) -> String {
    let mut row = [
        "JRTCKXETXF",
        "OnDemand",
        "On Demand Linux, per hour",
        "Hrs",
        price,
        "USD",
        name,
        "Shared",
        "Linux",
        "Used",
        "NA",
        "us-east-1",
        "OnDemand",
    ];
    for (key, value) in more {
        let i = COLUMNS.iter().position(|c| c == key).expect("a column");
        row[i] = value;
    }
    line(&row)
}

#[tokio::test]
async fn the_offer_file_gives_plain_linux_machines_on_demand() {
    let t4 = "g4dn.xlarge";
    let body = [
        HEADING.to_owned(),
        line(&COLUMNS),
        offer(t4, "0.5260000000", &[]),
        offer(t4, "0.7100000000", &[("Operating System", "Windows")]),
        offer(t4, "0.6000000000", &[("Tenancy", "Dedicated")]),
        offer(t4, "0.9000000000", &[("Pre Installed S/W", "SQL Std")]),
        offer(
            t4,
            "0.0000000000",
            &[("CapacityStatus", "AllocatedCapacityReservation")],
        ),
        offer(
            t4,
            "2000",
            &[("TermType", "Reserved"), ("Unit", "Quantity")],
        ),
        offer(t4, "0.3", &[("MarketOption", "CapacityBlock")]),
        offer(t4, "0.4", &[("Region Code", "us-east-1-bos-1")]),
        offer(t4, "3.4", &[("Currency", "CNY")]),
        offer("m5.large", "0.0960000000", &[]),
        offer("p5.48xlarge", "0.0000000000", &[]),
    ]
    .concat();
    let server = Server::start(move |target| {
        let good = target == "/offers/v1.0/aws/AmazonEC2/current/us-east-1/index.csv";
        good.then(|| Answer::Whole(200, body.clone()))
    })
    .await;
    let refreshed = ask(&server, CloudKind::Aws, "us-east-1").await;
    assert!(refreshed.failed.is_empty(), "{:?}", refreshed.failed);
    assert_eq!(
        shown(&refreshed),
        [(t4.to_owned(), Market::OnDemand, 526_000)]
    );
    let said = failure(&ask(&server, CloudKind::Aws, "us-east-9").await);
    assert!(said.contains("status 404"), "{said}");
    let said = failure(&ask(&server, CloudKind::Aws, "../eu").await);
    assert!(said.contains("not a region"), "{said}");
}

#[tokio::test]
async fn a_truncated_or_foreign_offer_file_gives_nothing() {
    let good = [
        HEADING.to_owned(),
        line(&COLUMNS),
        offer("g4dn.xlarge", "0.5", &[]),
    ]
    .concat();
    let cut = good[..good.len() - 30].to_owned();
    let long = format!("{HEADING}\"{}\n", "x".repeat(MAX_LINE_BYTES));
    let short_row = format!("{good}\"a\",\"b\"\n");
    let no_tenancy = good.replace("Tenancy", "Tenant");
    for (answer, says) in [
        (Answer::Broken(good.clone()), "no answer"),
        (Answer::Whole(200, cut), "ends in the middle of a row"),
        (Answer::Whole(200, long), "a line has more than"),
        (Answer::Whole(200, short_row), "a row has 2 fields, not 13"),
        (Answer::Whole(200, no_tenancy), "no column \"Tenancy\""),
        (Answer::Whole(200, HEADING.to_owned()), "no table of prices"),
        (
            Answer::Whole(200, "a\n".repeat(30)),
            "no column \"Instance Type\"",
        ),
        (Answer::Whole(200, String::new()), "no table of prices"),
    ] {
        let server = Server::start(move |_| Some(answer.clone())).await;
        let said = failure(&ask(&server, CloudKind::Aws, "us-east-1").await);
        assert!(said.contains(says), "{said} is not about {says}");
    }
}

fn sku(description: &str, usage: &str, units: &str, nanos: u64, unit: &str) -> serde_json::Value {
    serde_json::json!({
        "name": "services/6F81-5844-456A/skus/0000-0000-0000", "skuId": "0000-0000-0000",
        "description": description,
        "category": {"serviceDisplayName": "Compute Engine", "resourceFamily": "Compute",
                     "resourceGroup": "CPU", "usageType": usage},
        "serviceRegions": ["us-central1", "us-east1"],
        "pricingInfo": [{"summary": "", "pricingExpression": {"usageUnit": unit,
            "tieredRates": [{"startUsageAmount": 0,
                "unitPrice": {"currencyCode": "USD", "units": units, "nanos": nanos}}]}}],
        "serviceProviderName": "Google"
    })
}

#[tokio::test]
async fn googles_parts_are_added_up_and_its_key_is_never_shown() {
    let first = serde_json::json!({"skus": [
        sku("A2 Instance Core running in Americas", "OnDemand", "0", 31_611_000, "h"),
        sku("A2 Instance Ram running in Americas", "OnDemand", "0", 4_237_000, "GiBy.h"),
        sku("Commitment v1: A2 Cpu in Americas for 1 Year", "Commit1Yr", "0", 1, "h"),
        sku("Spot Preemptible A2 Instance Core running in Americas", "Preemptible", "0", 9_480_000, "h"),
    ], "nextPageToken": "two words"});
    let second = serde_json::json!({"skus": [
        sku("Nvidia Tesla A100 GPU running in Americas", "OnDemand", "2", 933_908_000, "h"),
        sku("Nvidia Tesla A100 GPU attached to Spot Preemptible VMs running in Americas", "Preemptible", "0", 880_000_000, "h"),
        sku("Nvidia H100 80GB GPU running in Americas", "OnDemand", "9", 0, "h"),
    ], "nextPageToken": ""});
    let (first, second) = (first.to_string(), second.to_string());
    let server = Server::start(move |target| {
        let body = if target.contains("pageToken=two") {
            &second
        } else {
            &first
        };
        Some(Answer::Whole(200, body.clone()))
    })
    .await;
    let refreshed = ask(&server, CloudKind::Gcp, "us-central1").await;
    assert!(refreshed.failed.is_empty(), "{:?}", refreshed.failed);
    // 12 cores, 85 GiB, 1 GPU; its spot memory has no price, so spot has none.
    let name = "a2-highgpu-1g".to_owned();
    assert_eq!(shown(&refreshed), [(name, Market::OnDemand, 3_673_385)]);
    let heads = server.heads();
    assert!(
        heads
            .iter()
            .all(|h| !h.lines().next().is_some_and(|l| l.contains("kept-secret")))
    );
    assert!(
        heads
            .iter()
            .all(|h| h.contains("x-goog-api-key: kept-secret"))
    );

    let denied = Server::start(|_| Some(Answer::Whole(403, String::new()))).await;
    let said = failure(&ask(&denied, CloudKind::Gcp, "us-central1").await);
    assert!(
        said.contains("status 403") && !said.contains("kept-secret"),
        "{said}"
    );
    let mut live = prices(&denied.base);
    assert!(!format!("{live:?}").contains("kept-secret"));
    live.options.gcp_api_key = None;
    let scopes = [
        scope(CloudKind::Gcp, "us-central1"),
        scope(CloudKind::Gcp, "us-east1"),
    ];
    let refreshed = live.refresh(&catalog(), &scopes, NOW).await;
    assert_eq!(refreshed.failed.len(), 2, "each region is named");
    assert!(say(&refreshed.failed[0].1).contains("GPULOOM_GCP_API_KEY"));
}

#[tokio::test]
async fn live_prices_replace_the_embedded_ones_and_stay_when_a_list_fails() {
    let good = page(&[meter("Standard_NC4as_T4_v3", "x", "0.6", &[])], "null");
    let server = Server::start(move |_| Some(Answer::Whole(200, good.clone()))).await;
    let mut known = catalog();
    let refreshed = ask(&server, CloudKind::Azure, "eastus").await;
    assert_eq!(known.merge(&refreshed.quotes), 1);
    let row = known
        .row(CloudKind::Azure, "eastus", "Standard_NC4as_T4_v3")
        .expect("a new region has a row");
    let price = row.on_demand.clone().expect("a price");
    assert_eq!((price.hourly, price.at), (MicroUsd(600_000), NOW));
    assert_eq!(&*price.source, "azure-retail-prices");
    assert_eq!(row.spot, None, "unknown is not zero");

    let down = Server::start(|_| Some(Answer::Whole(500, String::new()))).await;
    let refreshed = ask(&down, CloudKind::Azure, "eastus").await;
    assert_eq!(known.merge(&refreshed.quotes), 0);
    let row = known.row(CloudKind::Azure, "eastus", "Standard_NC4as_T4_v3");
    assert_eq!(row.and_then(|r| r.on_demand.clone()), Some(price));
}
