//! `gpuloom gpu-probe` by itself, for tests.

fn main() -> std::process::ExitCode {
    gpuloom_gpu::probe_main(std::env::args().skip(1))
}
