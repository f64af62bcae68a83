use super::*;
use google_cloud_compute_v1::model::operation;
use google_cloud_compute_v1::model::operation::error::Errors;
use google_cloud_compute_v1::model::{
    BulkInsertOperationStatus, InstancesBulkInsertOperationMetadata,
};
use gpuloom_fleet::Market;

fn offering(zone: &str, machine_type: &str) -> Offering {
    Offering::new("gcp", "us-central1", zone, machine_type, Market::Spot)
}

fn failed(errors: &[(&str, &str, &str)]) -> Operation {
    let each = errors.iter().map(|(code, location, message)| {
        Errors::new()
            .set_code(*code)
            .set_location(*location)
            .set_message(*message)
    });
    Operation::new()
        .set_status(operation::Status::Done)
        .set_error(operation::Error::new().set_errors(each))
}

#[test]
fn codes_say_what_can_be_done() {
    use FailureClass::*;
    for (code, message, class) in [
        ("ZONE_RESOURCE_POOL_EXHAUSTED", "", Capacity),
        ("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "", Capacity),
        ("VM_MIN_COUNT_NOT_REACHED", "", Capacity),
        ("QUOTA_EXCEEDED", "", Quota),
        ("quotaExceeded", "", Quota),
        ("rateLimitExceeded", "", Throttled),
        ("RATE_LIMIT_EXCEEDED", "", Throttled),
        ("CONCURRENT_OPERATIONS_QUOTA_EXCEEDED", "", Throttled),
        ("UNSUPPORTED_OPERATION", "", Unsupported),
        (
            "RESOURCE_NOT_FOUND",
            "The resource 'projects/p/zones/z/machineTypes/g9' was not found",
            Unsupported,
        ),
        (
            "RESOURCE_NOT_FOUND",
            "The resource 'projects/p/global/images/i' was not found",
            Invalid,
        ),
        ("forbidden", "", Auth),
        ("accessNotConfigured", "", Auth),
        ("CONDITION_NOT_MET", "", Auth),
        ("backendError", "", Transient),
        ("INVALID_FIELD_VALUE", "", Invalid),
        ("badRequest", "", Invalid),
    ] {
        assert_eq!(of_code(code, message), Some(class), "{code}");
    }
    assert_eq!(of_code("SOMETHING_NEW", ""), None);
}

#[test]
fn a_failed_operation_is_never_unknown() {
    for code in ["INTERNAL_ERROR", "SOMETHING_NEW"] {
        let said = of_operation(failed(&[(code, "", "no")]));
        assert_eq!(said[0].class, FailureClass::Capacity, "{code}");
    }
    let http = Operation::new()
        .set_http_error_status_code(403)
        .set_http_error_message("FORBIDDEN");
    assert_eq!(of_operation(http)[0].class, FailureClass::Auth);
    assert!(
        of_operation(Operation::new()).is_empty(),
        "no error: it did what it was asked"
    );
}

#[test]
fn what_is_said_of_a_zone_is_noted_for_its_offerings_alone() {
    let offerings = [
        offering("us-central1-a", "g2-standard-4"),
        offering("us-central1-b", "g2-standard-4"),
        offering("us-central1-a", "g2-standard-48"),
    ];
    let said = of_operation(failed(&[
        (
            "VM_MIN_COUNT_NOT_REACHED",
            "",
            "Requested minimum count of 1 VMs could not be created.",
        ),
        (
            "ZONE_RESOURCE_POOL_EXHAUSTED",
            "",
            "The zone 'projects/p/zones/us-central1-a' does not have enough resources",
        ),
    ]));
    let failed: Vec<_> = by_offering(&said, &offerings)
        .into_iter()
        .map(|f| (f.offering, f.class))
        .collect();
    assert_eq!(
        failed,
        [
            (offerings[0].clone(), FailureClass::Capacity),
            (offerings[2].clone(), FailureClass::Capacity)
        ]
    );
}

#[test]
fn what_is_said_of_a_machine_type_is_not_said_of_a_longer_name() {
    let offerings = [
        offering("us-central1-a", "g2-standard-4"),
        offering("us-central1-a", "g2-standard-48"),
    ];
    let said = of_operation(failed(&[(
        "QUOTA_EXCEEDED",
        "",
        "Quota for g2-standard-48 exceeded in us-central1-a",
    )]));
    let failed = by_offering(&said, &offerings);
    assert_eq!(failed.len(), 1);
    assert_eq!(
        (&failed[0].offering, failed[0].class),
        (&offerings[1], FailureClass::Quota)
    );
}

#[test]
fn a_zone_that_failed_without_a_word_has_no_capacity() {
    let one = BulkInsertOperationStatus::new().set_failed_to_create_vm_count(1);
    let metadata = InstancesBulkInsertOperationMetadata::new()
        .set_per_location_status([("zones/us-central1-b", one)]);
    let done = Operation::new()
        .set_status(operation::Status::Done)
        .set_instances_bulk_insert_operation_metadata(metadata);
    let offerings = [
        offering("us-central1-a", "g2-standard-4"),
        offering("us-central1-b", "g2-standard-4"),
    ];
    let failed = by_offering(&of_operation(done), &offerings);
    assert_eq!(failed.len(), 1);
    assert_eq!(
        (&failed[0].offering, failed[0].class),
        (&offerings[1], FailureClass::Capacity)
    );
}

#[test]
fn an_error_of_the_whole_call_names_what_it_is_about() {
    let offerings = [offering("us-central1-a", "g2-standard-4")];
    let said = of_operation(failed(&[("PERMISSIONS_ERROR", "", "Required permission")]));
    let error = launch_error("cannot launch x", &said, &offerings);
    assert_eq!(error.class, FailureClass::Auth);
    assert!(error.failed.is_empty(), "credentials are nobody's offering");
    assert_eq!(
        error.message,
        "cannot launch x: PERMISSIONS_ERROR: Required permission"
    );
}
