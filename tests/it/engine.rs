use crate::support::*;
use std::path::Path;

#[test]
fn smoke_real_files() {
    let real = Path::new("/work/shared/storymaster");
    for name in ["presync", "migrated", "small", "synced", "minimal"] {
        let started = std::time::Instant::now();
        let mut desktop = Replica::of_copy(&real.join(format!("storymaster_{name}.db")), 1);
        println!("{name}: migrated in {:?}, locked {} ms, {} tables", started.elapsed(), desktop.report.locked_ms, desktop.report.tables.len());
        let before = std::fs::read(&desktop.database).unwrap();
        desktop.start();
        assert_eq!(desktop.capture(), 0);
        assert_eq!(before, std::fs::read(&desktop.database).unwrap(), "second run changes nothing");
        let mut phone = Replica::empty(2);
        let started = std::time::Instant::now();
        let (pushed, pulled) = phone.sync(&mut desktop);
        println!("  pulled {pulled} pushed {pushed} in {:?}", started.elapsed());
        assert_same_content(&desktop.database, &phone.database, true);
        assert_eq!(phone.sync(&mut desktop), (0, 0));
        assert_eq!(desktop.sync(&mut phone), (0, 0));
        let status = phone.engine().status().unwrap();
        println!("  {status:?}");
    }
}
