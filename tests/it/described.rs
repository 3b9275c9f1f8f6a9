//! The OpenAPI documents: they say what the listeners really answer, field by field, and describe
//! every route. (That every answer fits is schemathesis's affair, see tests/openapi.sh; here is
//! what it can't reach: conflicts, a paired device's sealed bodies, fields nobody described.)

use serde_json::{Value, json};

use crate::handmade::Handmade;
use crate::nodes::*;

/// A document of a serving node.
fn document(address: &str, path: &str) -> Value {
    let (status, body) = http_get(address, path, "");
    assert_eq!(status, 200, "{path}");
    serde_json::from_slice(&body).unwrap()
}

/// What a schema says of itself, references followed.
fn followed<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).expect(reference),
        None => schema,
    }
}

/// Fields of `value` no schema describes, and fields a schema demands that it lacks.
fn misfits(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let schema = followed(document, schema);
    for name in ["oneOf", "anyOf"] {
        if let Some(kinds) = schema[name].as_array() {
            // As good as the best of them.
            return kinds
                .iter()
                .filter(|kind| value.is_null() || kind["type"] != "null")
                .map(|kind| misfits(document, kind, value, at))
                .min_by_key(Vec::len)
                .unwrap_or_default();
        }
    }
    match value {
        Value::Object(fields) => {
            let named = schema["properties"].as_object();
            let others = &schema["additionalProperties"];
            let mut found: Vec<String> = schema["required"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|name| !fields.contains_key(name.as_str().unwrap()))
                .map(|name| format!("{at}: {name} is missing"))
                .collect();
            for (name, value) in fields {
                let at = format!("{at}.{name}");
                match named.and_then(|named| named.get(name)) {
                    Some(schema) => found.extend(misfits(document, schema, value, &at)),
                    None if others.is_object() => {
                        found.extend(misfits(document, others, value, &at));
                    }
                    None => found.push(format!("{at} is described nowhere")),
                }
            }
            found
        }
        Value::Array(values) => values
            .iter()
            .enumerate()
            .flat_map(|(number, value)| {
                misfits(document, &schema["items"], value, &format!("{at}[{number}]"))
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// A desktop that serves and a paired device, with a row in conflict.
fn in_conflict() -> (TestNode, TestNode) {
    let (desktop, phone) = paired();
    desktop.app("UPDATE actor SET job = 'smith' WHERE id = 1");
    phone.app("UPDATE actor SET job = 'sailor' WHERE id = 1");
    phone.sync();
    (desktop, phone)
}

#[test]
fn loopback_answers_have_the_fields_that_are_described_and_no_others() {
    let (desktop, _phone) = in_conflict();
    let (address, token) = admin(&desktop);
    let described = document(&address, "/openapi.json");
    let check = |path: &str, target: &str| {
        let (status, body) = http_get(&address, target, &token);
        assert_eq!(status, 200, "{target}");
        let value: Value = serde_json::from_slice(&body).unwrap();
        let schema = &described["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
            ["schema"];
        assert!(schema.is_object(), "{path} is not described");
        let found = misfits(&described, schema, &value, path);
        assert!(found.is_empty(), "{found:#?}");
        value
    };
    let conflicts = check("/api/conflicts", "/api/conflicts");
    let conflict = &conflicts["conflicts"][0];
    let row = format!("/api/history/actor/{}", conflict["sync_uuid"].as_str().unwrap());
    assert!(!check("/api/history/{table}/{uuid}", &row)["history"].as_array().unwrap().is_empty());
    for path in ["/", "/api/pair/qr-data", "/api/pair/state", "/api/live", "/api/brakes"] {
        check(path, path);
    }
    assert_eq!(check("/api/devices", "/api/devices")["devices"].as_array().unwrap().len(), 1);
    assert!(!check("/api/log", "/api/log")["log"].as_array().unwrap().is_empty());

    let id = conflict["id"].as_str().unwrap();
    let (status, _) = http_post(
        &address,
        &format!("/api/conflicts/{id}/resolve"),
        &token,
        &json!({ "take": "mine" }),
    );
    assert_eq!(status, 200);
    assert_eq!(
        check("/api/conflicts/ended", "/api/conflicts/ended")["ended"].as_array().unwrap().len(),
        1
    );
}

/// An opened body, inflated where it was compressed.
fn plain(body: &[u8]) -> Value {
    if body.starts_with(&[0x1f, 0x8b]) {
        return serde_json::from_reader(flate2::read::GzDecoder::new(body)).unwrap();
    }
    serde_json::from_slice(body).unwrap()
}

#[test]
fn what_is_in_sealed_bodies_has_the_fields_that_are_described_and_no_others() {
    let (desktop, phone) = in_conflict();
    let (address, _) = admin(&desktop);
    let described = document(&address, "/openapi/lan.json");
    let client = Handmade::of(&phone, &desktop);
    let prekey = client.prekey();
    let mut seq = 0;
    let mut check = |method: &str, target: &str, body: &Value| {
        seq += 1;
        let sealed = if method == "POST" { body.to_string().into_bytes() } else { Vec::new() };
        let request = client.request(method, target, &sealed, seq, prekey);
        let (status, answer) = client.send(&request.bytes);
        let answer = plain(&request.awaited.open(status, &answer).unwrap().body);
        assert_eq!(status, 200, "{target}: {answer}");
        let inner = &described["paths"][target][method.to_lowercase()]["x-sealed"];
        assert!(inner.is_object(), "{target} is not described");
        let mut found = misfits(&described, &inner["request"], body, "request");
        found.extend(misfits(&described, &inner["response"], &answer, "answer"));
        assert!(found.is_empty(), "{target}: {found:#?}");
        answer
    };
    check("GET", "/api/sync/status", &json!({}));
    check("GET", "/api/devices", &json!({}));
    let pulled = check("POST", "/api/sync/pull", &json!({ "limit": 1000, "data": true }));
    let mut change = pulled["changes"][0].clone();
    assert!(change["automerge"][0].is_string() && change["data"].is_object());
    change.as_object_mut().unwrap().remove("automerge");
    let pushed = check("POST", "/api/sync/push", &json!({ "changes": [change] }));
    assert_eq!(pushed["accepted_states"].as_array().unwrap().len(), 1);
    check("POST", "/api/sync/fetch", &json!({ "after": 0 }));
    check("POST", "/api/sync/digests", &json!({}));
    check("POST", "/api/sync/digests", &json!({ "entity_type": "actor" }));
    let conflicts = check("GET", "/api/sync/conflicts", &json!({}));
    let id = &conflicts["conflicts"][0]["id"];
    check("POST", "/api/sync/resolve", &json!({ "id": id, "take": "mine" }));
}

#[test]
fn what_a_query_a_path_or_a_body_is_refused_for_is_told_as_every_refusal_is() {
    let mut desktop = TestNode::empty();
    desktop.serve();
    let (address, token) = admin(&desktop);
    let lan = format!("127.0.0.1:{}", desktop.port);
    let refused = |address: &str, head: &str, status: u16| {
        let request = format!(
            "{head}Host: {address}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        let (answered, body) = exchange(address, request.as_bytes());
        let body: Value = serde_json::from_slice(&body).expect(head);
        assert_eq!(answered, status, "{head}: {body}");
        assert!(!body["detail"].as_str().unwrap().is_empty());
    };
    refused(&address, "GET /api/pair/qr-data?new=perhaps HTTP/1.1\r\n", 400);
    refused(&address, "DELETE /api/devices/%FF HTTP/1.1\r\n", 400);
    // Announced and never sent: it is waited for, for ten seconds.
    let mut stalls = std::net::TcpStream::connect(&address).unwrap();
    stalls.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    let head = format!(
        "POST /api/name HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: 300\r\nConnection: close\r\n\r\n"
    );
    std::io::Write::write_all(&mut stalls, head.as_bytes()).unwrap();
    let answer = std::io::read_to_string(stalls).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("{\"detail\":"), "{answer}");
    let long = http_post(&address, "/api/name", &token, &json!("x".repeat(3_000_000)));
    assert_eq!(long.0, 413, "{}", long.1);
    refused(&lan, "DELETE /api/devices/%FF HTTP/1.1\r\n", 400);
}

#[test]
fn deciding_all_and_one_or_undoing_a_row_and_a_device_in_one_body_is_refused() {
    let (desktop, _phone) = in_conflict();
    let (address, token) = admin(&desktop);
    let (_, body) = http_get(&address, "/api/conflicts", &token);
    let conflicts: Value = serde_json::from_slice(&body).unwrap();
    let id = conflicts["conflicts"][0]["id"].as_str().unwrap();
    let post = |target: &str, body: Value| http_post(&address, target, &token, &body).0;
    assert_eq!(post("/api/conflicts/resolve", json!({ "id": id, "all": "mine" })), 422);
    // The path names one: nobody means all of them.
    assert_eq!(post(&format!("/api/conflicts/{id}/resolve"), json!({ "all": "mine" })), 422);
    let row = json!({ "entity_type": "actor", "sync_uuid": conflicts["conflicts"][0]["sync_uuid"],
        "since": "2026-01-31T12:00:00Z" });
    assert_eq!(post("/api/undo", row), 422);
    let (_, body) = http_get(&address, "/api/conflicts", &token);
    let still: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(still["conflicts"].as_array().unwrap().len(), 1);
}

#[test]
fn documents_and_their_reference_need_no_token_and_nothing_from_elsewhere() {
    let mut desktop = TestNode::empty();
    desktop.serve();
    let (address, _) = admin(&desktop);
    for path in ["/openapi.json", "/openapi/lan.json"] {
        assert_eq!(document(&address, path)["openapi"], "3.1.0");
    }
    let answer = raw(
        &address,
        format!("GET /docs HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    );
    let answer = String::from_utf8(answer).unwrap();
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self'"));
    assert!(!page.contains("style=") && !page.contains("onclick") && !page.contains("<style"));
    for loaded in ["src=\"http", "src=\"//", "href=\"http", "href=\"//"] {
        assert!(!page.contains(loaded), "{loaded}");
    }
    for told in ["/api/conflicts/{id}/resolve", "/api/sync/pull", "$TOKEN", "lan-schema-RowChange"]
    {
        assert!(page.contains(told), "{told}");
    }
    let evil = "GET /openapi.json HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(&address, evil.as_bytes()).0, 421);
}

/// What a router answers: path and methods, as axum prints it.
fn routes_of(router: &axum::Router) -> Vec<(String, Vec<String>)> {
    let printed = format!("{router:?}");
    let (routes, rest) = printed.split_once(", node: Node { paths: {").unwrap();
    let paths = rest.split_once("} }").unwrap().0;
    let numbered = |text: &str| -> Vec<(String, String)> {
        text.split("RouteId(")
            .skip(1)
            .map(|one| one.split_once(')').unwrap())
            .map(|(number, rest)| (number.to_owned(), rest.to_owned()))
            .collect()
    };
    let allowed: std::collections::HashMap<String, String> = numbered(routes).into_iter().collect();
    let mut found: Vec<_> = numbered(paths)
        .into_iter()
        .map(|(number, path)| {
            let path = path.split('"').nth(1).unwrap().to_owned();
            let methods = allowed[&number]
                .split_once("allow_header: Bytes(b\"")
                .map_or("?", |(_, methods)| methods.split('"').next().unwrap());
            // axum answers HEAD wherever it answers GET.
            let methods = methods.split(',').filter(|method| *method != "HEAD");
            (path, methods.map(str::to_lowercase).collect())
        })
        .collect();
    found.sort();
    found
}

/// What a document describes, in the same form.
fn described_in(document: &Value) -> Vec<(String, Vec<String>)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .map(|(path, item)| (path.clone(), item.as_object().unwrap().keys().cloned().collect()))
        .collect()
}

async fn ask(router: &axum::Router, target: &str, token: &str) -> (u16, Value) {
    use tower::ServiceExt as _;
    let request = axum::http::Request::get(target)
        .header("host", "127.0.0.1")
        .header("authorization", format!("Bearer {token}"))
        .body(axum::body::Body::empty())
        .unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_either_listener_is_described_and_nothing_else_is() {
    let mut replica = crate::support::Replica::empty(1);
    let folder = replica.folder.path().join("data");
    let identity = storysync_engine::store::key_file::load_or_create(
        &folder,
        &mut storysync::net::node_state::system_rng(),
    )
    .unwrap();
    let trust = storysync_engine::store::trust::TrustStore::open(&folder).unwrap();
    let options = storysync::node::ServeOptions {
        host: "127.0.0.1".parse().unwrap(),
        port: 0,
        port_is_chosen: true,
        admin_port_is_chosen: true,
        admin_port: 0,
        name: "desk".to_owned(),
        approval: storysync_engine::trust::pairing::Approval::None,
        pairing_seconds: 120,
        host_names: Vec::new(),
        discovery: false,
        asks_at_first_contact: false,
        live: None,
        program: None,
        settings: storysync::settings::Settings::default(),
    };
    let engine = replica.engine.take().unwrap();
    let node =
        storysync::node::Node::start(engine, trust, identity, &folder, options).await.unwrap();
    let state = node.state();
    let (admin, _) = storysync::net::admin::router(state.clone());
    let lan = storysync::net::lan::router(state.clone());
    let page =
        storysync::page::router(node.page().clone(), storysync::net::admin::router(state.clone()));
    let token = storysync_engine::trust::to_base64url(state.admin_token.expose());

    let (_, lan_document) = ask(&page, "/openapi/lan.json", "").await;
    assert_eq!(routes_of(&lan), described_in(&lan_document), "the LAN listener");

    let (_, document) = ask(&page, "/openapi.json", "").await;
    let described = described_in(&document);
    let mut routed = routes_of(&admin);
    for (path, methods) in routes_of(&page) {
        if described.iter().any(|(known, _)| *known == path) {
            routed.push((path, methods));
        } else if path != "/assets/{name}" {
            // A view for people answers nobody without a session, whatever token it brings.
            let target = path.replace(['{', '}'], "");
            let (status, _) = ask(&page, &target, &token).await;
            assert!(
                status == 401 || !methods.contains(&"get".to_owned()),
                "{path} has no description"
            );
            assert!(!path.starts_with("/api/"), "{path} has no description");
        }
    }
    routed.sort();
    assert_eq!(routed, described, "the loopback listener");
}
