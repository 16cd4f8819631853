/// What an idle client allocates is aligned to 128 bytes, which costs a fourth
/// more with glibc's malloc (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    pgweir::cli::main()
}
