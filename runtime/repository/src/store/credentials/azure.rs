//! Azure's blobs: connection strings, keys, shared access signatures, applications and managed identities.

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use url::Url;

use crate::store::client::{Client, Environment, is_true, set};
use crate::store::credentials::identity::{Absent, Identity};
use crate::store::credentials::{Opened, given, kserve, once, wrong};
use crate::store::fault::Fault;
use crate::uri::BucketPlace;

const CONNECTION: &str = "AZURE_STORAGE_CONNECTION_STRING";
const UNSIGNED: &str = "AZURE_SKIP_SIGNATURE";
const TOKEN: &str = "AZURE_STORAGE_TOKEN";
const KEYS: [&str; 4] =
    ["AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_MASTER_KEY"];
const SIGNATURES: [&str; 2] = ["AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY"];
const HELP: &str = "set AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, or AZURE_TENANT_ID, \
                    AZURE_CLIENT_ID and AZURE_CLIENT_SECRET";

/// The store of a container of Azure's, and who asks it.
pub(super) async fn store(place: &BucketPlace, client: &Client, environment: &Environment) -> Result<Opened, Fault> {
    let environment = &kserve::azure(environment)?;
    let mut builder = MicrosoftAzureBuilder::new();
    // What says who asks is chosen below.
    let chosen = |name: &str| KEYS.contains(&name) || SIGNATURES.contains(&name);
    for (name, value) in environment.iter().filter(|(name, _)| name.starts_with("AZURE_") && !chosen(name)) {
        if let Ok(key) = name.to_ascii_lowercase().parse::<AzureConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(endpoint) = set(environment, "IDENTITY_ENDPOINT") {
        builder = builder.with_msi_endpoint(endpoint);
    }
    let connection = set(environment, CONNECTION).map(Connection::parse).transpose()?.unwrap_or_default();
    let account = account(place, &connection, environment)?;
    // A key belongs to one account.
    let ours = connection.account.as_ref().is_none_or(|of| *of == account);
    if let Some(endpoint) = connection.endpoint.as_ref().filter(|_| ours) {
        builder = builder.with_endpoint(endpoint.clone());
    }
    let (builder, found) = choose(builder, place, Some(connection).filter(|_| ours), environment)?;
    let builder = builder
        .with_account(account)
        .with_container_name(&place.bucket)
        .with_allow_http(true)
        .with_retry(once())
        .with_http_connector(client.clone());
    let unsigned = || builder.clone().with_skip_signature(true).build().map_err(|error| wrong(&error));
    if is_true(set(environment, UNSIGNED)) {
        return Ok(Opened::of(unsigned()?, Identity::Declined(UNSIGNED.to_owned())));
    }
    let store = builder.clone().build().map_err(|error| wrong(&error))?;
    if let Some(words) = found {
        return Ok(Opened::of(store, Identity::Found(words)));
    }
    if given(store.credentials()).await {
        let words = "signed as the managed identity of this machine (the metadata server)";
        return Ok(Opened::of(store, Identity::Found(words.to_owned())));
    }
    let names = [CONNECTION, KEYS[0], KEYS[1], SIGNATURES[0], "AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE"];
    let mut looked: Vec<String> = names.into_iter().map(str::to_owned).collect();
    looked.push("the metadata server".to_owned());
    Ok(Opened::of(unsigned()?, Identity::Absent(Absent::credentials(looked, HELP))))
}

/// Sets who asks, the nearest to the container first, and says who it is; none for the machine, which may be nobody.
fn choose(
    builder: MicrosoftAzureBuilder,
    place: &BucketPlace,
    connection: Option<Connection>,
    environment: &Environment,
) -> Result<(MicrosoftAzureBuilder, Option<String>), Fault> {
    let Connection { key, signature, .. } = connection.unwrap_or_default();
    let of = |names: &[&'static str]| names.iter().find_map(|name| Some((set(environment, name)?.to_owned(), *name)));
    // `object_store` has an order of its own.
    let as_type = |builder: MicrosoftAzureBuilder, of: &str| match set(environment, "AZURE_CREDENTIAL_TYPE") {
        Some(_) => builder,
        None => builder.with_credential_type(of),
    };
    let by_signature = |builder: MicrosoftAzureBuilder, signature: String, of: &str| {
        // A `?` is copied along easily.
        let signature = signature.trim_start_matches('?').to_owned();
        let builder = as_type(builder.with_config(AzureConfigKey::SasKey, signature), "sas_token");
        Ok((builder, Some(format!("signed with the shared access signature in {of}"))))
    };
    let by_key = |builder: MicrosoftAzureBuilder, key: String, of: &str| {
        let builder = as_type(builder.with_access_key(key.trim()), "access_key");
        Ok((builder, Some(format!("signed with the key in {of}"))))
    };
    if let Some(signature) = place.signature.clone() {
        return by_signature(builder, signature, "the URL");
    }
    match (signature, key) {
        (Some(signature), _) => return by_signature(builder, signature, CONNECTION),
        (None, Some(key)) => return by_key(builder, key, CONNECTION),
        (None, None) => {}
    }
    if set(environment, TOKEN).is_some() {
        return Ok((builder, Some(format!("signed with the token in {TOKEN}"))));
    }
    if let Some((key, variable)) = of(&KEYS) {
        return by_key(builder, key, variable);
    }
    if let Some(words) = application(environment)? {
        return Ok((builder, Some(words)));
    }
    if let Some((signature, variable)) = of(&SIGNATURES) {
        return by_signature(builder, signature, variable);
    }
    let by_tool = is_true(set(environment, "AZURE_USE_AZURE_CLI"));
    Ok((builder, by_tool.then(|| "signed with the token of Azure's command line (AZURE_USE_AZURE_CLI)".to_owned())))
}

/// The application that asks, which has a secret or the token of a cluster.
fn application(environment: &Environment) -> Result<Option<String>, Fault> {
    let of =
        |names: [&'static str; 2]| names.into_iter().find_map(|name| set(environment, name).map(|value| (name, value)));
    let by = of(["AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_SECRET"]);
    let Some((by, _)) = by.or_else(|| of(["AZURE_STORAGE_CLIENT_SECRET", "AZURE_STORAGE_CLIENT_SECRET"])) else {
        return Ok(None);
    };
    let missing = |name: &str| Fault::refused(format!("{by} is set and {name} is not"));
    let id = of(["AZURE_CLIENT_ID", "AZURE_STORAGE_CLIENT_ID"]).ok_or_else(|| missing("AZURE_CLIENT_ID"))?.1;
    let tenant = of(["AZURE_TENANT_ID", "AZURE_STORAGE_TENANT_ID"]).or_else(|| of(["AZURE_AUTHORITY_ID"; 2]));
    let _ = tenant.ok_or_else(|| missing("AZURE_TENANT_ID"))?;
    Ok(Some(format!("signed as the application {id} with {by}")))
}

/// Whose containers they are: what stands nearest to the container counts.
fn account(place: &BucketPlace, connection: &Connection, environment: &Environment) -> Result<String, Fault> {
    let of = |name: &str| set(environment, name).map(str::to_owned);
    let account = place.account.clone().or_else(|| connection.account.clone());
    let account = account.or_else(|| of("AZURE_STORAGE_ACCOUNT")).or_else(|| of("AZURE_STORAGE_ACCOUNT_NAME"));
    account.ok_or_else(|| {
        Fault::refused(
            "the account is not known: set AZURE_STORAGE_CONNECTION_STRING or AZURE_STORAGE_ACCOUNT, or write \
             https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH",
        )
    })
}

/// What an Azure connection string says: `Name=value;…`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Connection {
    account: Option<String>,
    key: Option<String>,
    endpoint: Option<String>,
    signature: Option<String>,
}

impl Connection {
    /// <https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string>
    fn parse(text: &str) -> Result<Self, Fault> {
        let mut connection = Self::default();
        let mut protocol = "https".to_owned();
        let mut suffix = None;
        let mut emulator = (false, "http://127.0.0.1".to_owned());
        for (name, value) in text.split(';').filter_map(|item| item.trim().split_once('=')) {
            let value = value.trim().to_owned();
            match name.trim().to_ascii_lowercase().as_str() {
                "accountname" => connection.account = Some(value),
                "accountkey" => connection.key = Some(value),
                "blobendpoint" => connection.endpoint = Some(value.trim_end_matches('/').to_owned()),
                "sharedaccesssignature" => connection.signature = Some(value),
                "defaultendpointsprotocol" => protocol = value,
                "endpointsuffix" => suffix = Some(value),
                "usedevelopmentstorage" => emulator.0 = is_true(Some(&value)),
                "developmentstorageproxyuri" => emulator.1 = value.trim_end_matches('/').to_owned(),
                _ => {}
            }
        }
        if let (true, host) = emulator {
            return Ok(Self::emulator(&host));
        }
        if let (None, Some(account), Some(suffix)) = (&connection.endpoint, &connection.account, suffix) {
            connection.endpoint = Some(format!("{protocol}://{account}.blob.{suffix}"));
        }
        if let (None, Some(endpoint)) = (&connection.account, &connection.endpoint) {
            let account = account_in(endpoint).ok_or_else(|| {
                // Not the address itself, behind which a signature may stand.
                Fault::refused(format!(
                    "the BlobEndpoint in {CONNECTION} names no account; expected https://ACCOUNT.HOST"
                ))
            })?;
            connection.account = Some(account);
        }
        Ok(connection)
    }

    /// The account of Azure's emulators, whose key everybody knows.
    fn emulator(host: &str) -> Self {
        let account = "devstoreaccount1";
        let key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
        let endpoint = Some(format!("{host}:10000/{account}"));
        Self { account: Some(account.to_owned()), key: Some(key.to_owned()), endpoint, signature: None }
    }
}

/// The account in the address of its blobs: the first part of the path where it has one, else of the host.
fn account_in(endpoint: &str) -> Option<String> {
    let url = Url::parse(endpoint).ok()?;
    let path = url.path_segments().and_then(|mut parts| parts.next().map(str::to_owned));
    let path = path.filter(|part| !part.is_empty());
    path.or_else(|| Some(url.domain()?.split_once('.')?.0.to_owned())).filter(|account| !account.is_empty())
}

#[cfg(test)]
mod tests {
    use crate::store::client::{Client, Environment};
    use crate::store::credentials::Identity;
    use crate::store::credentials::azure::{Connection, store};
    use crate::store::credentials::server::{Reply, Server, environment};
    use crate::store::fault::Fault;
    use crate::uri::{BucketPlace, Provider};

    fn parsed(text: &str) -> Connection {
        Connection::parse(text).expect("understood")
    }

    fn place(account: Option<&str>, signature: Option<&str>) -> BucketPlace {
        let (account, signature) = (account.map(str::to_owned), signature.map(str::to_owned));
        BucketPlace { provider: Provider::Azure, bucket: "models".to_owned(), account, signature, path: "m".to_owned() }
    }

    async fn identity(place: &BucketPlace, environment: &Environment) -> Result<Identity, Fault> {
        let client = Client::new(&Environment::new()).expect("a client");
        store(place, &client, environment).await.map(|opened| opened.identity)
    }

    async fn found(place: &BucketPlace, variables: &[(&str, &str)]) -> String {
        match identity(place, &environment(variables)).await.expect("understood") {
            Identity::Found(words) => words,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn connection_strings_are_understood() {
        let text = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5==;BlobEndpoint=http://h:1/a;";
        let connection = parsed(text);
        assert_eq!(connection.key.as_deref(), Some("a2V5=="));
        assert_eq!(connection.endpoint.as_deref(), Some("http://h:1/a"));
        let connection = parsed("AccountName=a;EndpointSuffix=core.windows.net;SharedAccessSignature=sv=1&sig=x");
        assert_eq!(connection.endpoint.as_deref(), Some("https://a.blob.core.windows.net"));
        assert_eq!(connection.signature.as_deref(), Some("sv=1&sig=x"));
    }

    #[test]
    fn a_signature_needs_no_name_of_the_account() {
        for (endpoint, account) in [
            ("https://acc.blob.core.windows.net/", "acc"),
            ("http://127.0.0.1:10000/devstoreaccount1", "devstoreaccount1"),
            ("http://azurite:10000/devstoreaccount1/", "devstoreaccount1"),
        ] {
            let connection = parsed(&format!("BlobEndpoint={endpoint};SharedAccessSignature=sv=1&sig=x"));
            assert_eq!(connection.account.as_deref(), Some(account));
            assert_eq!(connection.endpoint.as_deref(), Some(endpoint.trim_end_matches('/')));
        }
        for endpoint in ["http://127.0.0.1:10000", "nonsense?sig=hunter2"] {
            let fault =
                Connection::parse(&format!("BlobEndpoint={endpoint};SharedAccessSignature=x")).expect_err(endpoint);
            assert!(fault.reason.contains("names no account") && !fault.reason.contains("hunter2"), "{fault}");
        }
    }

    #[test]
    fn the_emulator_has_a_name() {
        let connection = parsed("UseDevelopmentStorage=true");
        assert_eq!(connection.account.as_deref(), Some("devstoreaccount1"));
        assert_eq!(connection.endpoint.as_deref(), Some("http://127.0.0.1:10000/devstoreaccount1"));
        assert!(connection.key.is_some());
        let connection = parsed("UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://azurite");
        assert_eq!(connection.endpoint.as_deref(), Some("http://azurite:10000/devstoreaccount1"));
    }

    #[tokio::test]
    async fn who_asks_is_said() {
        let account = ("AZURE_STORAGE_ACCOUNT", "a");
        let key = ("AZURE_STORAGE_ACCESS_KEY", "a2V5");
        let plain = place(None, None);
        assert_eq!(found(&plain, &[account, key]).await, "signed with the key in AZURE_STORAGE_ACCESS_KEY");
        let signed = place(Some("a"), Some("sv=1&sig=x"));
        assert_eq!(found(&signed, &[key]).await, "signed with the shared access signature in the URL");
        let string =
            ("AZURE_STORAGE_CONNECTION_STRING", "BlobEndpoint=https://a.h.x;SharedAccessSignature=?sv=1&sig=x");
        let expected = "signed with the shared access signature in AZURE_STORAGE_CONNECTION_STRING";
        assert_eq!(found(&plain, &[string, key]).await, expected);
        let application = [account, ("AZ_TENANT_ID", "t"), ("AZ_CLIENT_ID", "me"), ("AZ_CLIENT_SECRET", "hunter2")];
        assert_eq!(found(&plain, &application).await, "signed as the application me with AZURE_CLIENT_SECRET");
        let half = environment(&[account, ("AZURE_CLIENT_SECRET", "hunter2"), ("AZURE_CLIENT_ID", "me")]);
        let fault = identity(&plain, &half).await.expect_err("incomplete");
        assert_eq!(fault.reason, "AZURE_CLIENT_SECRET is set and AZURE_TENANT_ID is not");
        let declined = identity(&plain, &environment(&[account, ("AZURE_SKIP_SIGNATURE", "true")])).await;
        assert_eq!(declined.expect("understood"), Identity::Declined("AZURE_SKIP_SIGNATURE".to_owned()));
    }

    #[tokio::test]
    async fn a_machine_without_an_identity_asks_unsigned() {
        let server = Server::start(|_| Reply { status: 400, body: "{}".to_owned() }).await;
        let variables = [("AZURE_STORAGE_ACCOUNT", "a"), ("IDENTITY_ENDPOINT", server.url.as_str())];
        let identity = identity(&place(None, None), &environment(&variables)).await.expect("understood");
        let refusal = identity.explain(Fault::refused("the server answered 401 Unauthorized")).reason;
        let expected = "no credentials were found (looked at AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_KEY, \
                        AZURE_STORAGE_ACCESS_KEY, AZURE_STORAGE_SAS_TOKEN, AZURE_CLIENT_SECRET, \
                        AZURE_FEDERATED_TOKEN_FILE, the metadata server), so the request was not signed: set \
                        AZURE_STORAGE_CONNECTION_STRING, ";
        assert!(refusal.contains(expected), "{refusal}");
    }
}
