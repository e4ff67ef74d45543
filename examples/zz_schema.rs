#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args[0].as_str() {
        "schema" => println!(
            "{}",
            serde_json::to_string_pretty(&shanty::registry::schema::<shanty::run::RunConfig>()).unwrap()
        ),
        "describe" => {
            for name in &args[1..] {
                let (k, e) = shanty::registry::find(name).next().unwrap();
                println!("{}", shanty::registry::describe(k, e));
            }
        }
        "explain" => {
            let n = shanty::config::load(args[1].as_ref(), &args[3..]).unwrap();
            println!("{}", shanty::registry::explain::<shanty::run::RunConfig>(&n, &args[2]).unwrap());
        }
        "json" => {
            let n = shanty::config::load(args[1].as_ref(), &args[2..]);
            match n {
                Ok(n) => println!("{}", serde_json::to_string(&n).unwrap()),
                Err(_) => std::process::exit(2),
            }
        }
        _ => {}
    }
}
