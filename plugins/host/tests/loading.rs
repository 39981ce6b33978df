//! What is refused when a plugin is loaded, and where its compiled form may come from.

mod harness;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use corymb_core::{FileSource, Plugin, PluginError, PluginHost as _, PluginOptions, Step};
use corymb_plugin_host::Host;
use harness::{HOSTILE, Others, block_on, load, options, refusal, request, rows, serves, signature};

fn host() -> Host {
    Host::new().expect("host")
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    let mut section = vec![id, u8::try_from(content.len()).expect("short")];
    section.extend_from_slice(content);
    section
}

/// A component of these sections, by the component model's binary format.
fn component(sections: &[Vec<u8>]) -> FileSource {
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    bytes.extend(sections.concat());
    FileSource::Embedded { name: "made.wasm".to_owned(), bytes: Bytes::from(bytes) }
}

/// A component that imports an empty instance and exports nothing.
fn importing(name: &str) -> FileSource {
    let mut import = vec![1, 0, u8::try_from(name.len()).expect("short")];
    import.extend_from_slice(name.as_bytes());
    import.extend_from_slice(&[5, 0]);
    component(&[section(7, &[1, 0x42, 0]), section(10, &import)])
}

fn load_made(file: &FileSource) -> String {
    refusal(host().load(file, &options(), Some(&signature()), Arc::new(Others)))
}

#[test]
fn imports_outside_the_contract_are_named() {
    let allowed = "only corymb:plugin/{types, tensors, logging, metrics, images, inference}@0.1.x may be imported";
    for name in ["wasi:cli/environment@0.2.3", "corymb:plugin/tensors@0.2.0", "corymb:plugin/secrets@0.1.0"] {
        assert_eq!(load_made(&importing(name)), format!("plugin made: it imports '{name}'; {allowed}"));
    }
}

#[test]
fn what_is_no_plugin_is_refused() {
    let exports_nothing = load_made(&importing("corymb:plugin/types@0.1.0"));
    assert!(exports_nothing.contains("it does not fit the contract"), "{exports_nothing}");
    let empty = load_made(&FileSource::Embedded { name: "made.wasm".to_owned(), bytes: Bytes::new() });
    assert!(empty.contains("not a component that compiles"), "{empty}");
    let missing = load_made(&FileSource::Path("/nonexistent/plugin.wasm".into()));
    assert!(missing.contains("cannot read it"), "{missing}");
    assert!(!missing.contains("nonexistent"), "{missing}");
}

#[test]
fn a_giant_memory_is_refused_before_it_is_made() {
    // One core module with 8192 pages (512 MiB) of memory, instantiated.
    let module = [b"\0asm\x01\0\0\0".as_slice(), &section(5, &[1, 0, 0x80, 0x40])].concat();
    let refused = load_made(&component(&[section(1, &module), section(2, &[1, 0, 0, 0])]));
    assert_eq!(refused, "plugin made: it starts with 536870912 bytes of memory; 268435456 are allowed");
}

#[test]
fn descriptions_are_held_against_the_model() {
    let host = host();
    let with = |config: &str| {
        let options = PluginOptions { config: format!("\"{config}\""), ..options() };
        load(&host, &options)
    };
    assert_eq!(refusal(with("misfit")), "plugin hostile: model-inputs: the model has no 'z'; it has 'x'");
    assert_eq!(refusal(with("other")), "plugin hostile: outputs: 'y' has dtype 'fp8', which is not known here");
    assert_eq!(refusal(with("refuse")), "this configuration is not for me");
    assert!(refusal(with("infer")).contains("`configure` must answer the same"));
    assert!(matches!(with("trap"), Err(PluginError::Trap { .. })));
}

#[test]
fn a_plugin_may_stand_alone() {
    let host = host();
    let plugin = host.load(&harness::source(), &options(), None, Arc::new(Others)).expect("loaded");
    assert_eq!(plugin.served().outputs[0].shape.len(), rows("y").shape.len());
    assert_eq!(plugin.info().world, "orchestrator");
    assert!(matches!(block_on(plugin.preprocess(request("answer"))), Ok(Step::Answer(_))));
    assert!(matches!(block_on(plugin.preprocess(request(""))), Err(PluginError::Contract { .. })));
}

fn only_file(folder: &Path) -> std::path::PathBuf {
    let files: Vec<_> = fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path()).collect();
    assert_eq!(files.len(), 1);
    files[0].clone()
}

#[test]
fn compiled_forms_are_kept_and_checked() {
    let root = tempfile::tempdir().expect("folder");
    let folder = root.path().join("plugins");
    let options = PluginOptions { cache: Some(folder.clone()), ..options() };
    let host = host();
    let precompiled = |host: &Host| {
        let plugin = load(host, &options).expect("loaded");
        serves(&*plugin);
        plugin.info().precompiled
    };
    assert!(!precompiled(&host));
    assert!(precompiled(&host));
    assert!(precompiled(&self::host()), "another process finds it too");

    let file = only_file(&folder);
    let kept = fs::read(&file).expect("read");
    for at in [0, 8, 50, 80, kept.len() / 2, kept.len() - 1] {
        let mut tampered = kept.clone();
        tampered[at] ^= 0xff;
        fs::write(&file, &tampered).expect("written");
        assert!(!precompiled(&host), "byte {at}");
        assert_eq!(fs::read(&file).expect("read").len(), kept.len(), "stored again");
        assert!(precompiled(&host));
    }
    fs::write(&file, &kept[..kept.len() / 2]).expect("written");
    assert!(!precompiled(&host));

    fs::set_permissions(&folder, Permissions::from_mode(0o777)).expect("mode set");
    assert!(!precompiled(&host), "others could have written into it");
}

#[test]
fn a_shipped_form_is_used_where_only_root_could_have_put_it() {
    let root = tempfile::tempdir().expect("folder");
    let (path, shipped) = (root.path().join("hostile.wasm"), root.path().join("hostile.cwasm"));
    let host = host();
    fs::write(&path, HOSTILE).expect("written");
    fs::write(&shipped, host.compile(HOSTILE).expect("compiled")).expect("written");
    fs::set_permissions(&shipped, Permissions::from_mode(0o644)).expect("mode set");
    let load = || -> Box<dyn Plugin> {
        let file = FileSource::Path(path.clone());
        let plugin = host.load(&file, &options(), Some(&signature()), Arc::new(Others)).expect("loaded");
        serves(&*plugin);
        plugin
    };
    let is_root = rustix::process::geteuid().is_root();
    assert_eq!(load().info().precompiled, is_root);
    fs::set_permissions(&shipped, Permissions::from_mode(0o666)).expect("mode set");
    assert!(!load().info().precompiled, "others can write it");
    fs::set_permissions(&shipped, Permissions::from_mode(0o644)).expect("mode set");
    fs::write(&path, [HOSTILE, &section(0, b"\x01x")].concat()).expect("written");
    assert!(!load().info().precompiled, "it is of another component");
}

#[test]
fn compile_refuses_what_load_would_refuse() {
    let FileSource::Embedded { bytes, .. } = importing("wasi:cli/environment@0.2.3") else { panic!("embedded") };
    let refused = host().compile(&bytes).expect_err("refused").to_string();
    assert!(refused.starts_with("it imports 'wasi:cli/environment@0.2.3'"), "{refused}");
    let FileSource::Embedded { bytes, .. } = importing("corymb:plugin/types@0.1.0") else { panic!("embedded") };
    let refused = host().compile(&bytes).expect_err("refused").to_string();
    assert!(refused.starts_with("it does not fit the contract"), "{refused}");
}
