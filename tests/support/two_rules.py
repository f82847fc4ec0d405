"""A configuration of two rules, of which one is migrated and one is for one caller only."""


def two_rules(*, migration: str, path: str = "/closed", closed: str = "", modern: str = "", top: str = "") -> str:
    """Return the configuration with the migration table *migration*.

    The rule "closed" has *path* and the lines *closed*, the modern side the members *modern*; *top* begins the file.
    """
    return f"""\
environment = "client-testing"
{top}
[upstreams.bank]
url = "https://api.payments.jpmorgan.com/base"

[credentials.adfs]
flavor = "adfs"
client_id = "CC-1"
token_url = "https://idag2.jpmorganchase.com/adfs/oauth2/token"
private_key_file = "adfs.key"
certificate_file = "adfs.crt"

[credentials.login]
flavor = "jwt"
client_id = "c"
private_key_file = "oauth.key"
certificate_file = "oauth.crt"

[[routes]]
name = "payments"
path = "/payment"
upstream = "bank"
credential = "adfs"
audience = "JPMC:URI:RS-1"

[[routes]]
name = "closed"
path = "{path}"
methods = ["GET"]
callers = ["crm"]
upstream = "bank"
credential = "login"
audience = "own"
{closed}
[migrations.{migration}]
routes = ["payments"]
legacy = {{ credential = "adfs", audience = "JPMC:URI:RS-1" }}
modern = {{ credential = "login", audience = "jpm:uri:prod:payments"{modern} }}
pin = {{ modern = ["crm"] }}

[callers.erp]
networks = ["10.20.0.0/16"]

[callers.crm]
networks = ["10.30.0.0/16"]
"""
