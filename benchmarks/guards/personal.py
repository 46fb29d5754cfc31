"""How much personal data with a structure is found, how much of what is found is personal, and how long it takes.

    [HOLDFAST_DATA=.../data] python personal.py [--seed N] [--texts N]

Made-up sentences in ten languages, with labelled values in the forms of many countries, beside numbers that only look
like them; the check digits are computed here, apart from those of the guard. With `HOLDFAST_DATA`, the labelled
sentences of `guards/pii-presidio-first-half.jsonl.gz` too. A value counts as found if a finding of its kind covers it.
Intervals are Wilson's at 95 %. Exits with 1 if a bar is missed.
"""

import argparse
import gzip
import json
import math
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from holdfast.guards.pii.detect import find
from holdfast.guards.pii.standins import Standins

BAR = 0.95
MS_1K, MS_50K = 0.3, 3.0
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PRESIDIO = {
    "CREDIT_CARD": "card",
    "PHONE_NUMBER": "phone",
    "EMAIL_ADDRESS": "email",
    "IBAN_CODE": "iban",
    "US_SSN": "national_number",
    "US_DRIVER_LICENSE": "national_number",
    "IP_ADDRESS": "ip",
}


class Text(NamedTuple):
    """A text, and what is personal in it: kind, start, end."""

    text: str
    labels: list[tuple[str, int, int]]


class Maker:
    """Makes values of each kind from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def fill(self, form: str) -> str:
        """Replace each 9 by a digit, each A by a letter."""
        return "".join(
            self.random.choice("0123456789") if char == "9" else self.random.choice(ALPHABET) if char == "A" else char
            for char in form
        )

    def day(self) -> tuple[int, int, int]:
        return self.random.randint(1930, 2007), self.random.randint(1, 12), self.random.randint(1, 28)

    def email(self) -> str:
        name = self.random.choice(["anna.schmidt", "j_doe", "li-wei", "o'brien", "Maria", "x", "info+tag", "a.b.c"])
        host = self.random.choice(["gmail.com", "firma.de", "mail.company.co.uk", "uni-x.ac.jp", "t.io", "sub.a.org"])
        return f"{name}{self.random.randint(0, 999)}@{host}"

    def phone(self) -> str:
        forms = [
            *(
                "+1 (415) 999-9999",
                "415-999-9999",
                "(212) 999-9999",
                "+44 20 7999 9999",
                "020 7999 9999",
                "07999 999999",
            ),
            *("+49 30 9999999", "0171 9999999", "030/9999999", "+33 6 99 99 99 99", "06 99 99 99 99", "01.99.99.99.99"),
            *(
                "+34 699 999 999",
                "+39 349 9999999",
                "+31 6 99999999",
                "+48 599 999 999",
                "+46 70 999 99 99",
                "+7 912 999-99-99",
            ),
            *(
                "+81 3-9999-9999",
                "090-9999-9999",
                "+86 138 9999 9999",
                "+91 98999 99999",
                "+55 11 99999-9999",
                "0049 30 9999999",
            ),
            *(
                "+972-52-999-9999",
                "+27 82 999 9999",
                "+61 4 9999 9999",
                "212.999.9999",
                "+4915199999999",
                "(02) 9999 9999",
            ),
        ]
        return self.fill(self.random.choice(forms))

    def announced_phone(self) -> str:
        return self.fill(
            self.random.choice(["799 999 999", "599 9999", "9999 9999", "4999999999", "69 999 999", "99-99-99-99"])
        )

    def card(self) -> str:
        prefix, length = self.random.choice(
            [("4", 16), ("52", 16), ("2345", 16), ("37", 15), ("6011", 16), ("3530", 16)]
        )
        body = prefix + self.fill("9" * (length - len(prefix) - 1))
        total = sum(sum(divmod(int(digit) * (2 - at % 2), 10)) for at, digit in enumerate(reversed(body)))
        digits = body + str(-total % 10)
        gap = self.random.choice(["", " ", "-"])
        cuts = (4, 10) if length == 15 else (4, 8, 12)
        return gap.join(digits[start:end] for start, end in zip((0, *cuts), (*cuts, length), strict=True))

    def iban(self) -> str:
        country, form = self.random.choice(
            [
                *(("DE", "9" * 18), ("GB", "AAAA" + "9" * 14), ("FR", "9" * 23), ("NL", "AAAA" + "9" * 10)),
                *(("ES", "9" * 20), ("IT", "A" + "9" * 22), ("CH", "9" * 17), ("PL", "9" * 24), ("NO", "9" * 11)),
            ]
        )
        body = self.fill(form)
        number = int("".join(str(int(char, 36)) for char in body + country) + "00")
        plain = f"{country}{98 - number % 97:02}{body}"
        spaced = " ".join(plain[at : at + 4] for at in range(0, len(plain), 4))
        return self.random.choice([plain, spaced, plain.lower()])

    def ip(self) -> str:
        if self.random.random() < 0.3:
            return ":".join(f"{self.random.randint(1, 65535):x}" for _ in range(8))
        return ".".join(str(self.random.randint(11, 223)) for _ in range(4))

    def birth(self) -> str:
        year, month, day = self.day()
        name = ["January", "February", "March", "April", "May", "June", "July"][min(month, 7) - 1]
        return self.random.choice(
            [
                f"{day}.{month}.{year}",
                f"{month:02}/{day:02}/{year}",
                f"{year}-{month:02}-{day:02}",
                f"{name} {day}, {year}",
                f"{day} {name} {year}",
            ]
        )

    def key(self) -> str:
        mixed = "".join(self.random.choice(ALPHABET + ALPHABET.lower() + "0123456789") for _ in range(36))
        return self.random.choice(["sk-proj-" + mixed + "7", "ghp_" + mixed, "AKIA" + self.fill("A9A9A9A9A9A9A9A9")])

    def national(self) -> str:
        makers = [
            self.ssn,
            self.nino,
            self.cpf,
            self.dni,
            self.pesel,
            self.nir,
            self.resident,
            self.personnummer,
            self.bsn,
        ]
        return self.random.choice(makers)()

    def ssn(self) -> str:
        return f"{self.random.randint(100, 665)}-{self.random.randint(10, 99)}-{self.random.randint(1000, 9999)}"

    def nino(self) -> str:
        return self.random.choice(["AB", "CE", "JM", "WX"]) + self.fill("999999") + self.random.choice("ABCD")

    def cpf(self) -> str:
        digits = [self.random.randint(0, 9) for _ in range(9)]
        for _ in range(2):
            total = sum(digit * (len(digits) + 1 - at) for at, digit in enumerate(digits))
            digits.append((total * 10) % 11 % 10)
        d = "".join(map(str, digits))
        return f"{d[:3]}.{d[3:6]}.{d[6:9]}-{d[9:]}"

    def dni(self) -> str:
        number = self.random.randint(10_000_000, 99_999_999)
        return f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"

    def pesel(self) -> str:
        year, month, day = self.day()
        body = f"{year % 100:02}{month + (20 if year > 1999 else 0):02}{day:02}{self.random.randint(0, 9999):04}"
        total = sum(int(digit) * weight for digit, weight in zip(body, (1, 3, 7, 9) * 3, strict=False))
        return f"PESEL {body}{-total % 10}"

    def nir(self) -> str:
        month = self.random.randint(1, 12)
        body = f"{self.random.randint(1, 2)}{self.random.randint(30, 99)}{month:02}{self.fill('75999999')}"
        return f"{body}{97 - int(body) % 97:02}"

    def resident(self) -> str:
        year, month, day = self.day()
        body = f"{self.random.randint(110000, 650000)}{year}{month:02}{day:02}{self.fill('999')}"
        total = sum(int(digit) * (2 ** (17 - at) % 11) for at, digit in enumerate(body))
        return body + "10X98765432"[total % 11]

    def personnummer(self) -> str:
        year, month, day = self.day()
        body = f"{year % 100:02}{month:02}{day:02}{self.fill('999')}"
        total = sum(sum(divmod(int(digit) * (2 - at % 2), 10)) for at, digit in enumerate(body))
        return f"{body[:6]}-{body[6:]}{-total % 10}"

    def bsn(self) -> str:
        while True:
            body = self.fill("99999999")
            last = sum(int(digit) * (9 - at) for at, digit in enumerate(body)) % 11
            if last < 10:
                return f"BSN {body}{last}"

    def harmless(self) -> str:
        forms = [
            *(
                "order 9999999999",
                "Order #4999-9999-9999",
                "invoice 2024-999999",
                "v9.99.9",
                "version 19.9.99.9",
                "$9,999.99",
            ),
            *(
                "1.999.999,99 €",
                "2024-11-21 19:29:39",
                "16999999999",
                "1699999999999 ms",
                "ISBN 978-9-99-999999-9",
                "99 %",
            ),
            *(
                "tracking 1Z999AA19999999999",
                "SKU AA-99999-A",
                "99999 points",
                "pages 199-299",
                "ticket 99999999",
                "1999-2019",
            ),
            *(
                "99.9999, 9.99999",
                "19:29",
                "EAN 4999999999999",
                "build 29999.1999",
                "3.14159265",
                "x=99999999",
                "99x99x99 cm",
            ),
            *(
                "commit a9f99c9e9b9d99",
                "room 999",
                "2019-09-19T19:29:39Z",
                "RFC 9999",
                "case 99-9999",
                "Bestellung 99999999",
            ),
            *(
                "заказ 9999999999",
                "订单 999999999999",
                "pedido 9999-9999",
                "part 99-999-9999A",
                "the 99,999 lines",
                "Windows 11 29H2",
            ),
        ]
        if self.random.random() < 0.15:
            return "".join(self.random.choice("0123456789abcdef") for _ in range(self.random.choice([32, 40, 64])))
        return self.fill(self.random.choice(forms))


TEMPLATES = [
    *(
        "Please note {}.",
        "Thanks! {} is what I have, and {}.",
        "Bitte {} notieren, nicht {}.",
        "Voici {}, et aussi {}.",
    ),
    *(
        "Mi dato es {}.",
        "Ecco: {} e {}.",
        "O meu é {}, obrigado.",
        "Mijn gegevens: {}",
        "Вот {} и {}.",
        "这是{}，还有{}。",
    ),
    *("{}\n{}\n{}", "Dane: {}; {}", '{{"value": "{}", "other": "{}"}}', "| {} | {} |", "Well, {}? No, {}!"),
]
ANNOUNCED = {
    "phone": [
        "call {}",
        "Tel.: {}",
        "Handy {}",
        "mon téléphone : {}",
        "mi móvil es {}",
        "телефон {}",
        "电话：{}",
        "{} (office)",
    ],
    "date_of_birth": [
        "born on {}",
        "DOB: {}",
        "geboren am {}",
        "née le {}",
        "fecha de nacimiento: {}",
        "дата рождения {}",
    ],
}


def made(seed: int, count: int) -> list[Text]:
    maker, texts = Maker(seed), []
    kinds: dict[str, Callable[[], str]] = {
        "email": maker.email, "phone": maker.phone, "card": maker.card, "iban": maker.iban, "ip": maker.ip,
        "key": maker.key, "national_number": maker.national, "date_of_birth": maker.birth,
    }  # fmt: skip
    for _ in range(count):
        text, labels = "", []
        for at, part in enumerate(maker.random.choice(TEMPLATES).replace("{{", "{").replace("}}", "}").split("{}")):
            if at:
                kind = maker.random.choice([*kinds, *["harmless"] * 8])
                value = maker.harmless() if kind == "harmless" else kinds[kind]()
                announce = kind == "date_of_birth" or (kind == "phone" and maker.random.random() < 0.4)
                if announce and kind == "phone":
                    value = maker.announced_phone()
                before, after = maker.random.choice(ANNOUNCED[kind]).split("{}") if announce else ("", "")
                start = len(text) + len(before)
                if kind != "harmless":
                    words = value.rpartition(" ")[0] + " " if value[:3] in ("PES", "BSN") else ""
                    labels.append((kind, start + len(words), start + len(value)))
                text += before + value + after
            text += part
        texts.append(Text(text, labels))
    return texts


def presidio(path: Path) -> list[Text]:
    with gzip.open(path, "rt") as file:
        rows = [json.loads(line) for line in file]
    others = {"DATE_TIME": "date_of_birth", "STREET_ADDRESS": "address", "ZIP_CODE": "address"}
    return [
        Text(
            row["text"],
            [
                (PRESIDIO.get(span["type"]) or "?" + others.get(span["type"], ""), span["start"], span["end"])
                for span in row["spans"]
            ],
        )
        for row in rows
    ]


def wilson(hits: int, count: int) -> str:
    if not count:
        return "     -"
    z, share = 1.96, hits / count
    middle = (share + z * z / 2 / count) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / 4 / count / count) / (1 + z * z / count)
    return f"{share:.3f} [{max(middle - half, 0):.3f}, {min(middle + half, 1):.3f}]"


def judge(name: str, texts: list[Text], show: bool) -> bool:
    """Print recall and precision by kind. Labels that start with `?` may be found, and needn't be."""
    right, missed, wrong = Counter[str](), Counter[str](), Counter[str]()
    for text, labels in texts:
        found = [finding for finding in find(text) if finding.kind != "address"]
        for kind, start, end in labels:
            if kind[0] == "?":
                continue
            hit = any(f.kind == kind and f.start <= start and end <= f.end for f in found)
            (right if hit else missed)[kind] += 1
            if show and not hit:
                print("missed", kind, repr(text[max(start - 30, 0) : end + 10]))
        for f in found:
            said = {kind.lstrip("?") for kind, start, end in labels if f.start < end and start < f.end}
            if f.kind not in said:
                wrong[f.kind] += 1
                if show:
                    print("wrong", f.kind, repr(text[max(f.start - 30, 0) : f.end + 10]))
    print(f"\n{name}: {len(texts)} texts\n{'kind':<16} {'recall':<22} precision")
    for kind in sorted({*right, *missed, *wrong}):
        print(
            f"{kind:<16} {wilson(right[kind], right[kind] + missed[kind]):<22} "
            f"{wilson(right[kind], right[kind] + wrong[kind])}"
        )
    hits = right.total()
    recall, precision = hits / (hits + missed.total()), hits / (hits + wrong.total())
    print(f"{'all':<16} {wilson(hits, hits + missed.total()):<22} {wilson(hits, hits + wrong.total())}")
    return recall >= BAR and precision >= BAR


def milliseconds(run: Callable[[], object]) -> float:
    best = math.inf
    for _ in range(20):
        started = time.process_time()
        run()
        best = min(best, time.process_time() - started)
    return best * 1e3


def speed(texts: list[Text], seed: int) -> bool:
    """Print how long 1 KB and 50 KB take, where one sentence in eight has something in it."""
    prose = "The meeting went well, and everybody agreed that the next step should wait until the results are in. "
    whole = "".join(prose * 7 + text.text + " " for text in texts)[:50_000]
    print(f"\nspeed (process time, best of 20; {len(find(whole))} findings in 50 KB)")
    good = True
    for size, bar in ((1_000, MS_1K), (50_000, MS_50K)):
        text = whole[:size]
        hidden, back = Standins(b"key", str(seed)).hide(text)
        found = milliseconds(lambda text=text: find(text))  # type: ignore[misc]
        hide = milliseconds(lambda text=text: Standins(b"key", "s").hide(text))  # type: ignore[misc]
        restore = milliseconds(lambda back=back, hidden=hidden: back.restore(hidden))  # type: ignore[misc]
        print(
            f"{size:>6} characters: find {found:.3f} ms (bar {bar}), "
            f"find and hide {hide:.3f} ms, restore {restore:.3f} ms"
        )
        good &= found <= bar
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--texts", type=int, default=4000)
    parser.add_argument("--show", action="store_true", help="print what was missed and what was wrong")
    options = parser.parse_args()
    texts = made(options.seed, options.texts)
    good = judge("made up", texts, options.show)
    if data := os.environ.get("HOLDFAST_DATA"):
        good &= judge("presidio", presidio(Path(data) / "guards" / "pii-presidio-first-half.jsonl.gz"), options.show)
    good &= speed(texts, options.seed)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
