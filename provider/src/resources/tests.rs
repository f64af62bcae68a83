use super::all;
use tfplug::Attribute;

#[test]
fn every_attribute_is_described_and_no_secret_is_stored() {
    fn walk(path: &str, attributes: &[Attribute]) {
        for a in attributes {
            let path = format!("{path}.{}", a.name());
            assert!(
                !a.description_text().is_empty(),
                "{path} has no description"
            );
            assert!(!a.is_sensitive(), "{path} would be in the state");
            walk(&path, a.nested_attributes());
        }
    }
    for resource in all() {
        let schema = resource.schema();
        assert!(!schema.description_text().is_empty(), "{}", resource.name());
        walk(resource.name(), schema.attribute_list());
        for block in schema.block_list() {
            assert!(
                !block.description_text().is_empty(),
                "{}.{}",
                resource.name(),
                block.name()
            );
            walk(
                &format!("{}.{}", resource.name(), block.name()),
                block.attribute_list(),
            );
        }
    }
}

#[test]
fn every_resource_has_an_identity() {
    for resource in all() {
        assert!(resource.identity_schema().is_some(), "{}", resource.name());
    }
}
