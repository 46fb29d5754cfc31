"""The words that say what the number after them is, in the languages that people write to applications in.

In the lists `*` ends a word that may go on with other letters, and `_` joins the words of a phrase.
"""

import re
from typing import Literal, NamedTuple

Meaning = Literal["phone", "card", "number", "born", "account", "host", "key", "other"]
WINDOW = 48
"""How many characters before a number may say what it is."""

_WORDS: dict[Meaning, str] = {
    "phone": """
        phone phones telephone tel tél tlf mobile mob cell cellphone cellular fax whatsapp viber telegram
        sms texted text_me call called calling callback calls ring dial dialed dialled reachable reach_me
        reach_us reach_him reach_her reach_them answering messages_to message_to messages_from my_registered
        your_registered his_registered her_registered hotline landline desk office line voicemail contact
        pager extension gsm natel telefon* handy mobil mobilnr mobilnummer mobilfunk* anruf* ruf* rückruf*
        durchwahl erreich* festnetz* nummer téléphone telephone* portable appel* joindre joignable fixe
        numéro teléfono telefono* celular móvil movil llam* llám* cel contacto cellulare chiam* recapito
        telefone telemóvel ligue ligar contato bel bereik* mobiel telefoon* nås puhelin* puh soita komórk*
        zadzwo* dzwo* zavolej* volejte hív* sună* sunați cep ara arayın hubungi nomor hp telpon gọi
        điện_thoại тел телефон* моб мобил* звон* позвон* факс τηλ τηλέφων* κιν κινητ* καλ* 电话 電話 手机 手機 联系 聯繫
        致电 携帯 連絡先 番号 전화 휴대 연락처 핸드폰 هاتف* جوال اتصل* موبايل טלפון נייד फ़ोन फोन मोबाइल संपर्क โทร เบอร์
    """,
    "card": """
        card cards cc credit debit visa mastercard maestro amex karte* kreditkarte* carte carta tarjeta
        cartão cartao kaart karta karty kartę kort kortti* kart kartı карт* κάρτα* 卡号 卡 カード 카드 بطاقة כרטיס
        कार्ड
    """,
    "number": """
        ssn social_security national_id national_identification national_insurance national_number
        national_identity citizen_id personal_id personal_number personal_code resident_id identity_number
        identity_card identification_number nino ni_number ni_no nhs sin social_insurance tax_id
        tax_identification tax_file taxpayer tin tfn ird itin medicare medicaid driver_license
        driver_licence driver_s_license driver_s_licence drivers_license drivers_licence driving_licence
        license_number licence_number license_no licence_no passport id_card id_number id_no aadhaar aadhar
        pan hkid nric mykad nik ktp my_number steuer* sozialversicherung* rentenversicherung* svnr ahv*
        personalausweis* ausweis* reisepass* führerschein* sécurité_sociale securite_sociale nir insee
        passeport permis d_identité numéro_fiscal numéro_national dni nie nif cif curp rfc cédula cedula rut
        run cuil cuit pasaporte seguridad_social licencia clave codice_fiscale patente passaporto d_identità
        cpf rg contribuinte passaporte cidadão bsn burgerservicenummer rijksregister* rijbewijs paspoort
        pesel dowód* dowod* paszport* prawo_jazdy personnummer personnr cpr* fødselsnummer fnr kennitala
        henkilötunnus hetu isikukood asmens_kodas personas_kods rodné_číslo oib emšo jmbg cnp egn егн taj
        személyi* adóazonosító* amka αμκα αφμ kimlik tckn t_c_kimlik снилс инн паспорт* рнокпп іпн 身份证 身分證
        マイナンバー 個人番号 주민등록번호 주민번호 תעודת_זהות ת_ז आधार पैन บัตรประชาชน cmnd cccd pps*
    """,
    "born": """
        born birth birthday birthdate dob d_o_b geboren geb geburtstag geburtsdatum geboortedatum né_le
        née_le naissance nacido nacida nació nacimiento nato nata nascita nascido nascida nasceu nascimento
        urodz* født fødd född fødsels* födelse* syntynyt syntymä* narozen* szület* născut* doğum* dogum*
        родил* рожден* рождён* γεννήθηκε γέννησης γεννημέν* 出生 生年月日 誕生日 생년월일 출생 ميلاد* जन्म* sinh
    """,
    "account": "iban bic swift konto* account compte cuenta conto conta rekening* rachun* wire bank*",
    "host": "ip ips ipv4 ipv6 address addr host hosts hostname server client dns ping subnet gateway router remote",
    "key": """
        api_key apikey api_keys access_key secret_key secret token password passwd passwort bearer
        credential* contraseña mot_de_passe
    """,
    "other": """
        order* invoice* ticket* tracking parcel shipment isbn issn ean upc gtin sku version* ver serial part
        parts model case transaction txn ref reference commit build hash timestamp epoch article item batch
        lot page chapter section price amount total sum usd eur population job run_id
        trace request span doi pmid error code bestell* rechnung* auftrag* sendung* commande facture colis
        pedido factura fattura ordine fatura encomenda zamówieni* faktura* bestilling* ordrenummer tilaus*
        заказ* счет* счёт* 订单 訂單 發票 发票 注文 주문 طلب released published updated created expires expired issued
        since
    """,
}
_SCRIPTS = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_UNSPACED = re.compile(f"[{_SCRIPTS}]")
"""Scripts whose words are not kept apart, or go on with endings: there a word is looked for within others."""
_WORD = re.compile(rf"[^\W\d_{_SCRIPTS}]+|[{_SCRIPTS}]+")
_VALUE_BETWEEN = re.compile(r"[0-9\n]")
_STEM = 3
_AFTER = re.compile(
    r"[\s,(\-]{0,3}(?:office|fax|mobile|cell|home|work|desk|landline|handy|mobil|privat|portable|bureau|móvil|casa)\b"
)


class _Lexicon(NamedTuple):
    words: dict[str, Meaning]
    stems: dict[str, list[tuple[str, Meaning]]]
    """By their first letters."""
    phrases: dict[str, list[tuple[list[str], Meaning]]]
    """By their last word; all of their words."""
    within: re.Pattern[str]


def _lexicon() -> _Lexicon:
    words: dict[str, Meaning] = {}
    stems: dict[str, list[tuple[str, Meaning]]] = {}
    phrases: dict[str, list[tuple[list[str], Meaning]]] = {}
    within: dict[Meaning, list[str]] = {}
    for meaning, listed in _WORDS.items():
        for word in listed.split():
            plain = word.rstrip("*")
            if _UNSPACED.match(plain):
                within.setdefault(meaning, []).append(plain)
            elif "_" in plain:
                parts = _WORD.findall(plain.replace("_", " "))
                phrases.setdefault(parts[-1], []).append((parts, meaning))
            elif word != plain:
                stems.setdefault(plain[:_STEM], []).append((plain, meaning))
            else:
                words[plain] = meaning
    groups = [f"(?P<{meaning}>{'|'.join(found)})" for meaning, found in within.items()]
    return _Lexicon(words, stems, phrases, re.compile("|".join(groups)))


_LEXICON = _lexicon()


def meaning(text: str, at: int) -> Meaning | None:
    """Return what the nearest word before a place says of what stands there, None if none says anything."""
    window = text[max(at - WINDOW, 0) : at].lower()
    found = _WORD.findall(window)
    for last in range(len(found) - 1, -1, -1):
        if said := _said(found, last):
            # what is an order number is the one that follows, not those behind it
            return None if said == "other" and _VALUE_BETWEEN.search(window, window.rfind(found[last])) else said
    return None


def next_to(text: str, at: int) -> bool:
    """Whether no other number stands shortly before a place."""
    return not _VALUE_BETWEEN.search(text[max(at - 16, 0) : at])


def _said(found: list[str], last: int) -> Meaning | None:
    word = found[last]
    for phrase, said in _LEXICON.phrases.get(word, ()):
        if last + 1 >= len(phrase) and found[last + 1 - len(phrase) : last + 1] == phrase:
            return said
    if word in _LEXICON.words:
        return _LEXICON.words[word]
    for stem, said in _LEXICON.stems.get(word[:_STEM], ()):
        if word.startswith(stem):
            return said
    return None if word.isascii() else _within(word)


def _within(word: str) -> Meaning | None:
    last = None
    if _UNSPACED.search(word):
        for match in _LEXICON.within.finditer(word):
            last = match.lastgroup
    return last  # type: ignore[return-value]


def phone_after(text: str, at: int) -> bool:
    """Whether what follows says that a phone number went before."""
    return _AFTER.match(text[at : at + 16].lower()) is not None
