"""What the guard for secrets finds and what it takes for one, on made-up texts; and what the guards cost.

    python guards_secrets.py [--each 500] [--seed 1]

Each line names a kind of secret or of harmless text, how many were made, and how many were masked whole (secrets) or
touched at all (harmless ones), with the 95 % interval of Wilson. The texts come from a seeded generator that knows how
providers describe their keys, not how the guard looks for them. What it can't show is how often such texts occur: real
ones are not published. Kinds with a star are known limits: they are shown, and count in no bar. Exits with 1 if a
bar is missed.
"""

import argparse
import base64
import binascii
import json
import math
import random
import string
import sys
import time
import uuid
from collections.abc import Callable

from holdfast.guards.base import Context, Guard
from holdfast.guards.leaks import Leaks
from holdfast.guards.secrets.guard import Secrets
from holdfast.guards.topics import Topics

RECALL, FALSE_ALARMS = 0.97, 0.02
MS_1K, MS_50K = 0.3, 3.0
ALNUM = string.ascii_letters + string.digits
URLSAFE = ALNUM + "-_"
BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
WORDS = """
    the service then answers with an error whenever someone in accounting runs this report twice on a Monday so we moved
    its settings into another file and asked the team to look at what changed since the release of last week
""".split()  # noqa: SIM905 - reads better than a list
CONTEXT = Context(direction="output")

Random = random.Random


def some(r: Random, letters: str, length: int) -> str:
    return "".join(r.choices(letters, k=length))


def checked(r: Random, prefix: str) -> str:
    """A token as GitHub and npm make them: 30 random characters and their CRC-32 in base 62."""
    body, digits = some(r, ALNUM, 30), ""
    rest = binascii.crc32(body.encode())
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        digits = BASE62[digit] + digits
    return prefix + body + digits


def jwt(r: Random) -> str:
    parts = [
        {"alg": r.choice(["HS256", "RS256"]), "typ": "JWT"},
        {"sub": some(r, string.digits, 10), "iat": r.randrange(10**9)},
    ]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, some(r, URLSAFE, 43)])


def pem(r: Random) -> str:
    kind = r.choice(["RSA PRIVATE KEY", "PRIVATE KEY", "OPENSSH PRIVATE KEY", "EC PRIVATE KEY"])
    body = base64.b64encode(r.randbytes(r.choice([120, 600, 1200, 2350]))).decode()
    lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
    return f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----"


def human_password(r: Random) -> str:
    word = r.choice(["Falcon", "winter", "Lisboa", "qwerty", "Tr0ub4dor", "monkey", "Zürich", "s3cur1ty"])
    return word + r.choice(["", ".", "-", "_", "#"]) + str(r.randrange(10, 9999)) + r.choice(["", "!", "?", "$", "!!"])


TOKENS: dict[str, Callable[[Random], str]] = {
    "GitHub": lambda r: checked(r, r.choice(["ghp_", "gho_", "ghs_", "ghr_"])),
    "GitHub, fine-grained": lambda r: f"github_pat_{some(r, ALNUM, 22)}_{some(r, ALNUM, 59)}",
    "npm": lambda r: checked(r, "npm_"),
    "GitLab": lambda r: "glpat-" + some(r, URLSAFE, 19) + some(r, string.digits, 1),
    "AWS access key": lambda r: r.choice(["AKIA", "ASIA"]) + some(r, string.ascii_uppercase + "234567", 16),
    "Google": lambda r: "AIza" + some(r, URLSAFE, 35),
    "Slack": lambda r: f"xoxb-{some(r, string.digits, 12)}-{some(r, string.digits, 13)}-{some(r, ALNUM, 24)}",
    "Stripe": lambda r: r.choice(["sk_live_", "rk_live_", "sk_test_"]) + some(r, ALNUM, r.choice([24, 99])),
    "OpenAI": lambda r: f"sk-proj-{some(r, URLSAFE, 74)}T3BlbkFJ{some(r, URLSAFE, 74)}",
    "OpenAI, old": lambda r: f"sk-{some(r, ALNUM, 20)}T3BlbkFJ{some(r, ALNUM, 20)}",
    "Anthropic": lambda r: f"sk-ant-api03-{some(r, URLSAFE, 93)}AA",
    "Hugging Face": lambda r: "hf_" + some(r, string.ascii_letters, 34),
    "SendGrid": lambda r: f"SG.{some(r, URLSAFE, 22)}.{some(r, URLSAFE, 43)}",
    "DigitalOcean": lambda r: "dop_v1_" + r.randbytes(32).hex(),
    "JWT": jwt,
    "private key": pem,
}
VALUES: dict[str, Callable[[Random], str]] = {
    "named password": human_password,
    "named password, random": lambda r: (
        some(r, ALNUM + "!#$%&*+-=?@^_", r.randrange(10, 24)) + r.choice("0123456789") + r.choice("!#%")
    ),
    "named token, random": lambda r: some(r, ALNUM, r.randrange(24, 48)),
    "named secret, hex": lambda r: r.randbytes(r.choice([16, 20, 32])).hex(),
    "named secret, base64": lambda r: base64.b64encode(r.randbytes(30)).decode(),
}
LIMITS: dict[str, Callable[[Random], str]] = {
    "passphrase of words *": lambda r: (
        "password: " + "-".join(r.choices(["correct", "horse", "battery", "staple"], k=4))
    ),
    "random, not named *": lambda r: some(r, ALNUM, 40),
    "API key that is a UUID *": lambda r: f"api_key={uuid.UUID(int=r.getrandbits(128))}",
    "named after its value *": lambda r: f"{human_password(r)} is the password",
}

HARMLESS: dict[str, Callable[[Random], str]] = {
    "prose": lambda r: " ".join(r.choices(WORDS, k=60)) + ".",
    "talk of passwords": lambda r: r.choice(
        [
            "Your password must have at least 12 characters, one digit and one symbol.",
            "password: required, string, 8-64 characters",
            "The password is incorrect. Reset the password: see https://example.com/reset/2024",
            "Forgot your password? The token is valid for 24 hours.",
            "Passwort: bitte neu eingeben. max_tokens: 16384, token_count=128000",
        ]
    ),
    "code": lambda r: r.choice(
        [
            "password = os.environ['DB_PASSWORD']; token = get_token(session, scope='read')",
            "if user.password == hash_password(form.password2): raise InvalidPassword(token=request.headers)",
            'const apiKey = process.env.OPENAI_API_KEY; const key = "user_settings_panel_collapsed_state"',
            "key=lambda row: (row.tenant_id, row.created_at), secret=settings.SECRET_KEY_2024",
            "token: oauth2ClientIdFromRequestHeaderV2; secret = loadSecretFromVault2AndCacheIt",
            "token: ERC20TokenFactoryV2Implementation; key: com.example.service.AccountManagerFactoryBean",
            'password: "${{ secrets.REGISTRY_PASSWORD_2 }}"',
        ]
    ),
    "placeholders": lambda r: r.choice(
        [
            "export OPENAI_API_KEY=sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "AKIAIOSFODNN7EXAMPLE and wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            'api_key="YOUR_API_KEY_HERE_123", password: <your-password-1>, token=****************',
            "postgres://user:password@localhost:5432/app or mysql://root:root@db, redis://:${PASS}@cache",
            "ghp_" + "x" * 36 + " sk_test_" + "0" * 24,
        ]
    ),
    "tokens with a wrong checksum": lambda r: f"ghp_{some(r, ALNUM, 36)}",
    "hashes": lambda r: r.choice(
        [
            f"commit {r.randbytes(20).hex()}",
            f"sha256: {r.randbytes(32).hex()}",
            f"cache key: {r.randbytes(16).hex()}",
            f"image@sha256:{r.randbytes(32).hex()}",
            f'"integrity": "sha512-{base64.b64encode(r.randbytes(64)).decode()}"',
            f'ETag: "{r.randbytes(16).hex()}"',
            f"token {r.randbytes(20).hex()} was seen",
        ]
    ),
    "UUIDs": lambda r: (
        r.choice(["request", "key:", "token =", "idempotency-key:", "session"])
        + f" {uuid.UUID(int=r.getrandbits(128))}"
    ),
    "images": lambda r: "![x](data:image/png;base64,iVBORw0KGgo" + base64.b64encode(r.randbytes(900)).decode() + ")",
    "base64 of texts": lambda r: base64.b64encode(" ".join(r.choices(WORDS, k=40)).encode()).decode(),
    "certificates, public keys": lambda r: r.choice(
        [
            pem(r)
            .replace("RSA PRIVATE KEY", "CERTIFICATE")
            .replace("OPENSSH ", "")
            .replace("EC ", "")
            .replace("PRIVATE", "PUBLIC"),
            f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{some(r, ALNUM, 43)} me@host",
            "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        ]
    ),
    "URLs and ids": lambda r: r.choice(
        [
            f"https://example.com/v/{some(r, URLSAFE, 11)}?t=12&list={some(r, URLSAFE, 34)}",
            f"nextPageToken: {some(r, ALNUM, 40)}",
            f"arn:aws:iam::{some(r, string.digits, 12)}:role/ServiceRole",
            f"app.{r.randbytes(10).hex()}.chunk.js, order #{some(r, string.digits, 16)}",
            f"https://docs.example.com/@{some(r, string.ascii_lowercase, 8)}:8080/path@2x.png",
        ]
    ),
}


def wrapped(r: Random, token: str) -> str:
    """A token where tokens turn up."""
    one_line = json.dumps(token)[1:-1]
    return r.choice(
        [
            f"Here it is: {token}",
            f"{' '.join(r.choices(WORDS, k=12))} `{token}`, {' '.join(r.choices(WORDS, k=5))}.",
            f'{{"id": 7, "value": "{one_line}", "note": null}}',
            f'{{"arguments": "{{\\"text\\": \\"see\\\\n{one_line}\\"}}"}}',
            f"curl -H 'X-Auth: {token}' https://example.com",
            f"| name | value |\n|---|---|\n| x | {token} |",
            f"https://example.com/?a=1&b={token}",
            f"({token})",
        ]
    )


def named(r: Random, kind: str, value: str) -> str:
    """A value beside its name."""
    names = (
        ["password", "Password", "DB_PASSWORD", "passwd", "pwd"]
        if "password" in kind
        else ["api_key", "API-Key", "access_token", "client_secret", "apiKey", "SECRET_KEY", "auth token"]
    )
    name = r.choice(names)
    return r.choice(
        [
            f"{name}: {value}",
            f"{name}={value}",
            f'"{name}": "{value}",',
            f"export {name}='{value}'",
            f"The {name} is {value} .",
            f"**{name}:** `{value}`",
            f'{name} = "{value}"  # {r.choice(WORDS)}',
        ]
    )


def in_url(r: Random) -> tuple[str, str]:
    password = some(r, ALNUM + "-_.~!", r.randrange(8, 20))
    scheme = r.choice(["postgres", "postgresql+asyncpg", "mysql", "mongodb+srv", "redis", "amqp", "https"])
    return f"DATABASE={scheme}://{r.choice(['app', 'root', ''])}:{password}@db.example.com:5432/x", password


def hidden(guard: Guard, text: str, secret: str) -> bool:
    """Whether all of a secret is masked."""
    shown = json.dumps(secret)[1:-1] if secret not in text else secret
    start = text.find(shown)
    end = start + len(shown)
    found = sorted((f.start, f.end) for f in guard.check(text, CONTEXT).findings)
    for low, high in found:
        if low <= start < high:
            start = high
    return start >= end


def wilson(hits: int, of: int) -> tuple[float, float]:
    z, share = 1.96, hits / of
    middle, reach = share + z * z / (2 * of), z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return (middle - reach) / (1 + z * z / of), (middle + reach) / (1 + z * z / of)


def row(name: str, hits: int, of: int) -> None:
    low, high = wilson(hits, of)
    print(f"| {name:32} | {of:6,} | {hits:6,} | {hits / of:7.2%} | {low:.2%} to {high:.2%} |")


def secrets_found(guard: Guard, r: Random, each: int) -> tuple[int, int]:
    print("\n| secrets | texts | masked | recall | interval |\n|---|---|---|---|---|")
    total = 0
    for name, make in TOKENS.items():
        hits = sum(hidden(guard, wrapped(r, token), token) for token in [make(r) for _ in range(each)])
        row(name, hits, each)
        total += hits
    for name, make in VALUES.items():
        hits = sum(hidden(guard, named(r, name, value), value) for value in [make(r) for _ in range(each)])
        row(name, hits, each)
        total += hits
    hits = sum(hidden(guard, text, password) for text, password in [in_url(r) for _ in range(each)])
    row("password in a URL", hits, each)
    total, of = total + hits, each * (len(TOKENS) + len(VALUES) + 1)
    row("all of these", total, of)
    for name, make in LIMITS.items():
        row(name, sum(guard.check(make(r), CONTEXT).kind != "pass" for _ in range(each)), each)
    return total, of


def false_alarms(guard: Guard, r: Random, each: int) -> tuple[int, int]:
    print("\n| harmless | texts | touched | false alarms | interval |\n|---|---|---|---|---|")
    total = 0
    for name, make in HARMLESS.items():
        hits = sum(guard.check(make(r), CONTEXT).kind != "pass" for _ in range(each))
        row(name, hits, each)
        total += hits
    row("all", total, each * len(HARMLESS))
    return total, each * len(HARMLESS)


def prose(r: Random, length: int) -> str:
    """Words that look like a language's: half of them frequent ones, half of 5,000 rare ones."""
    rare = [
        "".join(r.choice("bdfgklmnprstvz") + r.choice("aeiou") for _ in range(r.randrange(2, 5))) for _ in range(5000)
    ]
    said = [
        r.choice(WORDS if r.random() < 0.5 else rare) + r.choice(["", "", "", ",", ".", "\n"])
        for _ in range(length // 3)
    ]
    return " ".join(said)[:length]


def costs(r: Random) -> tuple[float, float]:
    """Print the CPU time of each guard in ms, and return that of all together on prose of 1 KB and of 50 KB."""
    prompt = "You help the customers of a bank. " + " ".join(r.choices([*WORDS, "mortgage", "never", "tell"], k=250))
    context = Context(direction="output", session="s", prompt=prompt, canaries=("kestrel-7f3a91-moss",))
    deny = [f"{some(r, string.ascii_lowercase, 6)} {r.choice(WORDS)}" for _ in range(200)]
    guards: list[Guard] = [Secrets(), Topics(deny=deny), Leaks(secrets=["gw-2Jx9Kq7LmVtR4p"])]
    answer = prose(r, 50_000)
    texts = {
        "prose": answer,
        "prose, typographic": answer.replace("someone", "some’one").replace("report", "“rapport” – é"),
        "JSON": json.dumps([{"id": some(r, ALNUM, 12), "key": "name", "value": r.choice(WORDS)} for _ in range(900)])[
            :50_000
        ],
        "Chinese": "服务在周一运行报告时会返回错误，因此我们更改了设置。" * 640,
        "base64": base64.b64encode(r.randbytes(37_500)).decode(),
        "sk-sk-sk-": "sk-" * 16_700,
        "key=key=": "key=" * 12_500,
        "://a:b@://": "://a:b@" * 7_200,
        "-----BEGIN": "-----BEGIN PRIVATE KEY-----" * 1_850,
        "eyJ-eyJ-": "eyJ-" * 12_500,
        "password:a1b2c3": "password:a1b2c3 " * 3_125,
        "sk-proj-": "sk-proj-" * 6_250,
        "pwd:pwd:": "pwd:" * 12_500,
        "the prompt": (prompt + " ") * 30,
    }
    print(
        "\n| ms for 1 KB / 50 KB / 1 MB | "
        + " | ".join(guard.name for guard in guards)
        + " | together |\n|---|---|---|---|---|"
    )
    sums = {}
    for name, whole in texts.items():
        text = whole[:50_000]
        sizes = [text[:1_000], text, text * (1_000_000 // len(text))]
        cells = [[best(guard, piece, context) for piece in sizes] for guard in guards]
        sums[name] = [sum(column) for column in zip(*cells, strict=True)]
        shown = [" / ".join(f"{ms:.2f}" for ms in cell) for cell in [*cells, sums[name]]]
        print(f"| {name} | {' | '.join(shown)} |")
    return sums["prose"][0], sums["prose"][1]


def best(guard: Guard, text: str, context: Context) -> float:
    times = []
    for _ in range(7 if len(text) < 100_000 else 1):
        start = time.process_time()
        guard.check(text, context)
        times.append(time.process_time() - start)
    return min(times) * 1000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--each", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    r, guard = Random(options.seed), Secrets()
    masked, secrets = secrets_found(guard, r, options.each)
    touched, harmless = false_alarms(guard, r, options.each)
    small, large = costs(r)
    bars = {
        f"recall of at least {RECALL:.0%}": masked / secrets >= RECALL,
        f"false alarms on at most {FALSE_ALARMS:.0%}": touched / harmless <= FALSE_ALARMS,
        f"at most {MS_1K} ms for 1 KB and {MS_50K} ms for 50 KB of prose": small <= MS_1K and large <= MS_50K,
    }
    print()
    for bar, met in bars.items():
        print(f"{'met' if met else 'MISSED'}: {bar}")
    sys.exit(not all(bars.values()))


if __name__ == "__main__":
    main()
