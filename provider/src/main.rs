//! The binary that Terraform starts.

fn main() -> std::process::ExitCode {
    tfplug::serve(gpuloom_provider::provider())
}
