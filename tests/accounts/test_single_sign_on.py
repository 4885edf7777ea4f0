"""Single sign-on against a small, real OpenID Connect provider: the authorization code flow with PKCE."""

import base64
import hashlib
import http.cookiejar
import http.server
import json
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.helpers.studio import Studio, free_port, wait_for

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
#: The studios of these tests have their own databases.
pytestmark = pytest.mark.any_database
CLIENT, SECRET = "studio", "s3cret-of-the-studio"


class Provider(http.server.BaseHTTPRequestHandler):
    """Every user is “ada” here, unless the provider is set to refuse."""

    issuer = ""
    codes: dict[str, dict[str, str]] = {}
    refuses = False
    nonsense = False

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if url.path == "/.well-known/openid-configuration":
            self._json(
                {
                    "issuer": self.issuer,
                    "authorization_endpoint": f"{self.issuer}/authorize",
                    "token_endpoint": f"{self.issuer}/token",
                    "userinfo_endpoint": f"{self.issuer}/userinfo",
                    "jwks_uri": f"{self.issuer}/keys",
                    "token_endpoint_auth_methods_supported": ["client_secret_post"],
                }
            )
        elif url.path == "/authorize":
            self._authorize(query)
        elif url.path == "/userinfo":
            self._json({"sub": "17", "preferred_username": "ada", "email": "ada@example.org", "name": "Ada L"})
        elif url.path == "/keys":
            key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key()))
            self._json({"keys": [{**key, "kid": "one", "use": "sig", "alg": "RS256"}]})
        else:
            self._json({}, 404)

    def _authorize(self, query: dict[str, str]) -> None:
        assert query["client_id"] == CLIENT
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        answer = {"state": query["state"]}
        if self.refuses:
            answer["error"] = "access_denied"
        else:
            code = f"code-{len(self.codes)}"
            self.codes[code] = query
            answer["code"] = code
        self.send_response(302)
        self.send_header("Location", f"{query['redirect_uri']}?{urllib.parse.urlencode(answer)}")
        self.end_headers()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = dict(urllib.parse.parse_qsl(body))
        asked = self.codes.pop(form.get("code", ""), None)
        verifier = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(verifier).rstrip(b"=").decode()
        sound = asked is not None and asked["code_challenge"] == challenge
        if self.nonsense or not sound or form["client_secret"] != SECRET:
            self._json({"error": "invalid_grant"}, 400)
            return
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "sub": "17", "iat": now, "exp": now + 300}
        token = jwt.encode(claims, KEY, algorithm="RS256", headers={"kid": "one"})
        self._json({"access_token": "access", "token_type": "Bearer", "id_token": token, "expires_in": 300})

    def _json(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """Suppress the log of the server."""


@pytest.fixture(scope="module")
def provider() -> Iterator[type[Provider]]:
    port = free_port()
    Provider.issuer = f"http://127.0.0.1:{port}"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Provider)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Provider
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def studio(provider: type[Provider], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio with single sign-on, in which a user “ada” already has an account with a password."""
    settings = {"OIDC_ISSUER": provider.issuer, "OIDC_CLIENT_ID": CLIENT, "OIDC_CLIENT_SECRET": SECRET}
    studio = Studio(tmp_path_factory.mktemp("sso") / "data", **settings, OIDC_NAME="Campus")
    studio.migrate()
    studio.python(
        "from django.contrib.auth.models import User; "
        "User.objects.create_superuser('ada', email='ada@example.org', password='correct horse')"
    )
    web = studio.spawn("web")
    wait_for(studio.answers, 60, "the web server answers")
    yield studio
    studio.stop(web)


class Browser:
    """Follows redirects and keeps cookies, as a browser does."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self.opener = urllib.request.build_opener(cookies)

    def open(self, path: str, data: dict[str, str] | None = None) -> tuple[int, str, str]:
        """(status, final address, page)"""
        body = urllib.parse.urlencode(data).encode() if data is not None else None
        request = urllib.request.Request(f"{self.studio.url}{path}", body, {"Referer": self.studio.url})
        try:
            with self.opener.open(request, timeout=30) as response:
                return response.status, response.url, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.url or "", error.read().decode()

    def press(self) -> tuple[int, str, str]:
        """Press the button of the sign-in page."""
        _status, _url, page = self.open("/login/")
        assert "Sign in with Campus" in page
        [action] = re.findall(r'action="(/sso/oidc/login/[^"]*)"', page)
        token = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[0]
        return self.open(action, {"csrfmiddlewaretoken": token})


def test_a_user_of_the_provider_gets_a_separate_account(studio: Studio) -> None:
    [before] = studio.rows("SELECT count(*) AS entries FROM trainingapp_auditentry")
    for _time in range(2):  # the second time it is the same account
        status, url, page = Browser(studio).press()
        assert (status, urllib.parse.urlsplit(url).path) == (200, "/"), page[:2000]
        assert "Viewer" in page
        assert "Administrator" not in page  # an equal name or e-mail address does not grant access to the other account
    people = studio.rows("SELECT username, is_superuser FROM auth_user ORDER BY id")
    assert len(people) == 2
    assert people[1]["username"] != "ada"
    assert not people[1]["is_superuser"]
    [group] = studio.rows("SELECT g.name FROM auth_group g JOIN auth_user_groups u ON u.group_id = g.id")
    assert group["name"] == "viewer"
    verbs = [row["verb"] for row in studio.rows("SELECT verb FROM trainingapp_auditentry ORDER BY id")]
    assert verbs[before["entries"] :] == ["create", "sign_in", "sign_in"]


def test_a_refusal_of_the_provider_is_shown(studio: Studio, provider: type[Provider]) -> None:
    provider.refuses = True
    try:
        _status, url, page = Browser(studio).press()
    finally:
        provider.refuses = False
    assert "The sign-in was cancelled" in page, url


def test_invalid_responses_of_the_provider_are_refused(studio: Studio, provider: type[Provider]) -> None:
    provider.nonsense = True
    browser = Browser(studio)
    try:
        _status, _url, page = browser.press()
    finally:
        provider.nonsense = False
    assert "Sign-in failed" in page
    assert urllib.parse.urlsplit(browser.open("/")[1]).path == "/login/"


@pytest.mark.long
def test_an_unsolicited_response_is_refused(studio: Studio) -> None:
    browser = Browser(studio)
    _status, _url, page = browser.open("/sso/oidc/login/callback/?code=stolen&state=made-up")
    assert "Sign-in failed" in page
    assert urllib.parse.urlsplit(browser.open("/")[1]).path == "/login/"


@pytest.mark.long
def test_the_password_login_still_works_for_its_own_account(studio: Studio) -> None:
    browser = Browser(studio)
    page = browser.open("/login/")[2]
    token = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[0]
    login = {"csrfmiddlewaretoken": token, "username": "ada", "password": "correct horse"}
    assert "Administrator" in browser.open("/login/", login)[2]


def test_the_content_security_policy_allows_the_redirect_to_the_provider(
    studio: Studio, provider: type[Provider]
) -> None:
    with urllib.request.urlopen(f"{studio.url}/login/", timeout=30) as response:
        policy = response.headers["Content-Security-Policy"]
    assert f"form-action 'self' {provider.issuer}" in policy


def test_incomplete_settings_are_refused(studio_env: dict[str, str], tmp_path: Path) -> None:
    studio = Studio(tmp_path / "half", OIDC_ISSUER="https://id.example.org")
    done = studio.manage("check", check=False)
    assert done.returncode != 0
    assert "OIDC_CLIENT_ID and OIDC_CLIENT_SECRET are needed" in done.stderr
