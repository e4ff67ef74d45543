//! The table "PyTorch → shanty" of docs/tensors.md.

/// Whatever Rust stands in the table is compiled and run: it stands in one of the page's examples too.
#[test]
fn every_line_of_the_table_is_in_an_example() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/tensors.md")).unwrap();
    let plain = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let (mut examples, mut inside) = (String::new(), false);
    for line in page.lines() {
        match line.starts_with("```") {
            true => inside = !inside,
            false if inside => examples += &plain(line),
            false => {}
        }
    }
    let mut rows = 0;
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        for code in cells[1].split('`').skip(1).step_by(2) {
            assert!(
                examples.contains(&plain(&code.replace('\\', ""))),
                "`{code}` of the table is in no example"
            );
            rows += 1;
        }
    }
    assert!(rows >= 40, "{rows}");
}
