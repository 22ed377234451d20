"""Which variables of the environment hold a credential: in doubt, one that is named like one."""

import pytest

from arpo_envs.tools.cache.credentials import without_credentials

SECRETS = [
    ("WEBHOOK_TOKEN_URL", "https://hooks.example.com/x?access_token=abcdef123456"),
    ("OAUTH_TOKEN_ENDPOINT", "https://x.example/t?client_secret=sssssssss"),
    ("AZURE_SAS_TOKEN_URL", "https://x.example/container?sv=2022&sig=Zm9vYmFy"),
    ("AUTH_TOKEN_URL", "https://me@wikipedia.org"),
    ("AUTH_TOKEN_URL", "https://wikipedia.org/#abcdefgh"),
    ("SLACK_TOKEN_URL", "https://hooks.slack.com/services/T00/B00/XXXX"),
    ("SLACK_TOKEN_URL", "https://hooks.example/0123abcd4567"),
    ("SLACK_TOKEN_URL", "https://9f86d081884c7d65.example/"),
    ("POSTGRES_PASSWORD_BACKEND", "hunter2hunter2"),
    ("API_KEY_BACKEND", "sk-live-abcdefgh"),
    ("API_KEY_PROVIDER", "sk-abcdefgh"),
    ("API_KEY_HOST", "sk-abcdefgh"),
    ("API_KEY_ISSUER", "correcthorse"),
    ("PASSWORD_US_REGION", "correcthorse"),
    ("API_KEY_URL", "sk-abcdefgh"),
    ("COOKIE_DOMAIN", "abcdefgh"),
    ("API_KEY_FILE", "sk-abcdefgh"),
    ("API_KEY_PATH", "/9j4AAQSkZJRgABAQ"),
    ("GOOGLE_CREDENTIALS_FILE", '{"private_key": "abcdefgh"}'),
    ("TOKEN_TYPE", "hunter2hunter2"),
    ("TOKEN_LIMIT", "0123-4567-89"),
]
OTHERS = [
    ("COOKIE_DOMAIN", ".wikipedia.org"),
    ("AUTH_TOKEN_URL", "https://login.example.com:8443/oauth2/v2.0/token"),
    ("AUTH_TOKEN_URL", "http://127.0.0.1:8080/"),
    ("SERVICE_KEY_FILE", "/srv/agent/.config/gcloud/credentials.json"),
    ("SSH_KEY_PATH", "~/.ssh/id_rsa"),
    ("KEY_ALGORITHM", "Elliptic"),
    ("TOKEN_TIMEOUT", "10000000"),
]


@pytest.mark.parametrize(
    ("name", "value", "is_credential"), [(*each, True) for each in SECRETS] + [(*each, False) for each in OTHERS]
)
def test_the_end_of_a_name_excuses_only_what_looks_like_it(name, value, is_credential, monkeypatch):
    monkeypatch.setenv(name, value)
    assert without_credentials(f"See {value} for more.") == f"See {'[credential]' if is_credential else value} for more."
