//! What the project's tasks share with the build scripts: the eBPF toolchain and its build.

pub mod ebpf;
