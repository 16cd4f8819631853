fn main() -> std::process::ExitCode {
    pgweir::cli::main()
}
