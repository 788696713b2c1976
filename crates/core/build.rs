//! Builds the crate again when a migration is added: the macro that includes them does not notice it.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
