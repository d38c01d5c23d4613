"""Feeds made from bytes: each byte is a choice, so a fuzzer that changes bytes changes feeds."""

import gzip
import io
import zipfile
import zlib

CODES = [
    "7290000000015",
    "7290000000022",
    "15",
    "016",
    "0",
    "000",
    "",
    "10181040009",
    "2000000000008",
    "A-1_b.c",
    "x" * 40,
]
CODES += [
    "x" * 41,
    "חלב",
    "1 5",
    " 15 ",
    "15\n",
    "/15",
    "-1",
    "9" * 13,
    "72900000000150",
    "&#49;5",
    "1<b/>5",
    "<![CDATA[15]]>",
    "15\xa0",
]
PRICES = [
    "6.90",
    "7",
    "0.00",
    "0",
    "",
    "-1",
    "99999",
    "99998.9999",
    "99998.99999",
    "100000",
    "12x",
    "1,299.00",
    "6.",
    ".5",
    "00007",
    "000007",
]
PRICES += [
    "₪5",
    "5 ₪",
    "1e5",
    "٣",
    "6,90",
    " 6.90 ",
    "&#54;",
    "<![CDATA[6.9]]>",
    "לא ידוע",
    "+5",
    "1" * 30,
    "0.0001",
    "0.00001",
    "12345.6789",
]
DATES = [
    "2026-03-01 06:00",
    "2026-03-01T06:50:11.000",
    "2026/03/01",
    "20260301",
    "01/03/2026 06:00:00",
    "02/11/22",
    "May 21 2015  3:0",
    "",
]
DATES += [
    "01/01/0001 00:00:00",
    "16/13/YYYY 13:13:22",
    "2026-02-30",
    "2026-03-27 02:30:00",
    "2026-10-25 01:30:00",
    "9999-12-31 23:59:59",
    "0000-00-00",
]
DATES += [
    "2026-03-01 24:00:00",
    "2026-03-01 25:00",
    "1979-12-31",
    "2026-03-01T06:00:00Z",
    "2026-03-01T06:00:00+02:00",
    "2026-03-01T06:00:00+99:99",
]
DATES += [
    "2026-3-1 6:0",
    "5/28/2015 1:00 PM",
    "2026-03-01 06:0x",
    "2026-03-01x06:00",
    "٢٠٢٦-03-01",
    "x",
    "2026-03/01 06:00",
    "9999-12-31 24:00",
]
FLAGS = ["1", "0", "", "true", "2", "/", "11", " ", "כן", "&#49;"]
WORDS = [
    "חלב 3%",
    "",
    " ",
    "לחם &amp; חמאה",
    "a&lt;b&gt;",
    "&quot;&apos;",
    "לחם & חמאה",
    "&bad;",
    "&#1488;",
    "&#x5d0;",
    "&#0;",
    "&#xD800;",
    "&#99999999;",
]
WORDS += [
    "<![CDATA[a<b]]>",
    "<![CDATA[</Item><Item>]]>",
    "<![CDATA[<!--]]>",
    "<!-- x -->",
    "<!-- </Item> -->",
    "<!-- <Item> -->",
    "a<!---->b",
    "]]>",
    "<b>x</b>",
    "<b/>",
]
WORDS += [
    "\x01",
    "\x1f",
    "\x00",
    "\x7f",
    "\x85",
    "\xa0",
    "\u2028",
    "\ufeff",
    "\ufffe",
    "\u202eבזק",
    "א\u0591",
    "😀",
    "1 < 2",
    "a > b",
    "<",
    ">",
    "&",
    "<?x y?>",
    "\r\n",
    "\r",
    "\t",
    "\n",
]
WORDS += [
    '500 מ"ל',
    "מ''ל",
    "לא ידוע",
    "עוף )עצמי( טרי",
    "6*1.5 ליטר",
    "1" * 60,
    "א" * 300,
    "null",
    "&e;",
    "<!DOCTYPE x>",
    "<!",
    "<!-",
    "<!--",
    "<![CDATA[",
    "-->",
]
UNITS = ["ליטר", "גרם", "100 גרם", 'ק"ג', "יחידה", 'מ"ל', "Unknown", "0", "1ליטר", "000ליטר", "קילו גרם"]
NUMBERS = ["1.00", "0", "", "500", "0.5", "1,000", "x", "-3", "1e9", "999999999", "0.0000001", "1.00 "]
PRICE_FIELDS = [
    ("ItemCode", CODES),
    ("ItemName", WORDS),
    ("ItemPrice", PRICES),
    ("PriceUpdateDate", DATES),
    ("AllowDiscount", FLAGS),
    ("ManufacturerName", WORDS),
]
PRICE_FIELDS += [
    ("UnitQty", UNITS),
    ("Quantity", NUMBERS),
    ("UnitOfMeasure", UNITS),
    ("bIsWeighted", FLAGS),
    ("QtyInPackage", NUMBERS),
    ("LastSaleDateTime", DATES),
]
PRICE_FIELDS += [
    ("ItemNm", WORDS),
    ("ManufactureCountry", WORDS),
    ("ManufacturerItemDescription", WORDS),
    ("ItemType", FLAGS),
    ("ItemId", CODES),
    ("PriceUpdateTime", DATES),
]
PROMO_FIELDS = [
    ("PromotionId", CODES),
    ("PromotionDescription", WORDS),
    ("PromotionStartDate", DATES),
    ("PromotionStartHour", DATES + ["07:00"]),
    ("PromotionEndDate", DATES),
]
PROMO_FIELDS += [
    ("PromotionEndHour", ["23:59", "", "x", "24:00"]),
    ("RewardType", FLAGS),
    ("MinQty", NUMBERS),
    ("DiscountedPrice", PRICES),
    ("DiscountRate", NUMBERS),
]
PROMO_FIELDS += [
    ("ClubId", ["0 - כלל הלקוחות", "1", "2,3", ""]),
    ("Remarks", WORDS),
    ("MinPurchaseAmnt", PRICES),
    ("PromotionDays", WORDS),
    ("DiscountType", FLAGS),
]
STORE_FIELDS = [
    ("StoreId", ["1", "001", "037", "", "x", "²", "9999"]),
    ("StoreName", WORDS),
    ("Address", WORDS),
    ("City", WORDS + ["חיפה"]),
    ("ZipCode", NUMBERS),
]
STORE_FIELDS += [
    ("ChainName", WORDS),
    ("Latitude", ["32.8", "0", "91", "x", ""]),
    ("Longitude", ["35.0", "0", ""]),
    ("LastUpdateDate", DATES),
    ("SubChainId", CODES),
]
CHAINS = ["7290000000001", "7290000000002", "", "0", "חנות", " 7290000000001 ", "<![CDATA[7290000000001]]>", "&#55;"]
STORES = ["1", "001", "2", "0037", "", "מרכז", "²", " 3 "]
BETWEEN = [
    "",
    "",
    "",
    "",
    "",
    "",
    "\n",
    "  ",
    "<!-- x -->",
    "<!-- <Item></Item> -->",
    "text",
    "</Item>",
    "<Item>",
    "<x/>",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "</Items><Items>",
    "<?pi <Item> ?>",
]
BETWEEN += [
    "</Items></Store><Store><StoreId>2</StoreId><Items>",
    "</Items><StoreId>3</StoreId><Items>",
    "<ChainId>7290000000002</ChainId>",
    "<Item/>",
    "<item></item>",
    "</Root>",
    "<![CDATA[<Item></Item>]]>",
]
NAMES = [
    "PriceFull7290000000001-001-202603010341.gz",
    "Price7290000000001-001-070-20260301-070013.gz",
    "PromoFull7290000000001-001-202603010341.gz",
    "x.xml",
    "",
]
NAMES += [
    "Stores7290000000001-202603010100 .xml",
    "NULLPrice7290000000001-028-202603011441.xml",
    "PriceFull7290000000001-001-202603270230",
    "prices.csv",
    "../../etc/passwd",
    "Promo\x00\u202e.gz",
]
ENTITIES = '<!DOCTYPE r [<!ENTITY e "EXP&#65;NDED"><!ENTITY f SYSTEM "file:///etc/hostname">]>'


class Choices:
    "Takes choices from bytes; when they are used up, every choice is the first."

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def below(self, n: int) -> int:
        return (self.byte() << 8 | self.byte()) % n if n > 256 else self.byte() % n

    def pick(self, options):
        return options[self.below(len(options))]

    def rarely(self, one_in: int = 8) -> bool:
        return self.byte() % one_in == one_in - 1


def _element(choose: Choices, tag: str, texts: list[str], rare: int) -> str:
    text = choose.pick(texts) if choose.rarely(2) else texts[0]
    if not choose.rarely(rare):
        return f"<{tag}>{text}</{tag}>"
    shape = choose.below(14)
    forms = [
        f"<{tag}/>",
        f"<{tag} />",
        f"<{tag} a='1'>{text}</{tag}>",
        f"<{tag} a='>'>{text}</{tag}>",
        f"<{tag}>{text}</{tag} >",
        f"<p:{tag}>{text}</p:{tag}>",
        f"<{tag}>{text}",
        f"{text}</{tag}>",
    ]
    forms += [
        f"<{tag.lower()}>{text}</{tag.lower()}>",
        f"<{tag}><y>{text}</y></{tag}>",
        f"<{tag}>{text}</{tag}>" * 2,
        f"<{tag}>{text}</x>",
        f"<{tag}\n>{text}</{tag}\n>",
        f"<{tag}Extra>{text}</{tag}Extra>",
    ]
    return forms[shape]


def _record(choose: Choices, tag: str, fields: list, size: int, rare: int) -> str:
    order = list(fields[:size])
    if choose.rarely(rare):
        n = choose.below(len(order))
        order = order[n:] + order[:n]
    if choose.rarely(rare):
        order.append(choose.pick(fields))
    inner = "".join(_element(choose, name, texts, rare) for name, texts in order)
    return _wrap_record(choose, tag, inner, rare)


def _wrap_record(choose: Choices, tag: str, inner: str, rare: int) -> str:
    if not choose.rarely(rare):
        return f"<{tag}>{inner}</{tag}>"
    forms = [
        f"<{tag} n='1'>{inner}</{tag}>",
        f"<{tag}>{inner}",
        f"{inner}</{tag}>",
        f"<{tag}>{inner}</{tag} >",
        f"<{tag}>{inner}<{tag}>{inner}</{tag}></{tag}>",
        f"<{tag}/>",
        f"<{tag}></{tag}>",
    ]
    forms += [
        f"<{tag}>\n {inner}\n</{tag}>\n",
        f"<{tag}>{inner}</{tag}x>",
        f"<{tag} a='>'>{inner}</{tag}>",
        f"<{tag}><z>{inner}</z></{tag}>",
        f"<{tag.lower()}>{inner}</{tag.lower()}>",
    ]
    return choose.pick(forms)


def _promotion(choose: Choices, tag: str, size: int, rare: int) -> str:
    own = "".join(_element(choose, name, texts, rare) for name, texts in PROMO_FIELDS[:size])
    items = "".join(
        f"<Item>{_element(choose, 'ItemCode', CODES, rare)}{_element(choose, 'RewardType', FLAGS, rare)}</Item>"
        for _ in range(choose.below(4))
    )
    clubs = "<Clubs><ClubId>1</ClubId><ClubId>2</ClubId></Clubs>" * choose.rarely(4)
    shape = choose.below(5)
    groups = f"<Groups><Group><GroupID>1</GroupID>{items}<PromotionItems>{items}</PromotionItems></Group><Group>{items}</Group></Groups>"
    inside = [
        f"<PromotionItems Count='2'>{items}</PromotionItems>",
        groups,
        _element(choose, "ItemCode", CODES, rare),
        items,
        "",
    ][shape]
    return _wrap_record(choose, tag, own + clubs + inside, rare)


def make_text(choose: Choices) -> str:
    "Make a feed's text."
    kind, rare = choose.pick(["Price", "Price", "Price", "Promo", "Stores"]), choose.pick([200, 60, 12, 4])
    tag = choose.pick(
        {
            "Price": ["Item", "Product", "Line", "p:Item", "ITEM"],
            "Promo": ["Promotion", "Sale", "PROMOTION"],
            "Stores": ["Store", "Branch", "STORE"],
        }[kind]
    )
    size, records = 3 + choose.below(16), []
    for _ in range(choose.pick([3, 1, 8, 20, 0, 60])):
        if kind == "Promo":
            records.append(_promotion(choose, tag, size, rare))
        elif records and choose.rarely(5):
            records.append(records[choose.below(len(records))])
        else:
            records.append(_record(choose, tag, PRICE_FIELDS if kind == "Price" else STORE_FIELDS, size, rare))
        records.append(choose.pick(BETWEEN) if choose.rarely(rare) else "")
    names = [("ChainId", CHAINS), ("SubChainId", STORES), ("StoreId", STORES), ("LastUpdateDate", DATES)]
    place = "".join(f"<{name}>{choose.pick(texts)}</{name}>" for name, texts in names if not choose.rarely(rare))
    count = choose.pick(["", f" Count='{len(records) // 2}'", " count='999'", ' Count="x"', " Count='0'"])
    lists = {"Price": "Items", "Promo": "Promotions", "Stores": "Stores"}[kind]
    body = f"<{lists}{count}>{''.join(records)}</{lists}>"
    before, behind = (place, "") if not choose.rarely(6) else ("", place)
    head = choose.pick(
        [
            "",
            '<?xml version="1.0" encoding="utf-8"?>',
            '<?xml version="1.0" encoding="ISO-8859-8"?>\r\n',
            "<!-- <Items> -->",
            ENTITIES,
            " \n" * 20,
            "x",
            '<?xml version="1.0" encoding="UTF-16"?>',
        ]
    )
    return f"{head}<Root>{before}{body}{behind}</Root>"


def pack(choose: Choices, data: bytes) -> bytes:
    "Pack bytes in one of the ways, some of them wrong."
    shape = choose.pick([0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8])
    if shape in (1, 4):
        data = gzip.compress(data, mtime=0)
    if shape in (2, 4):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(
                zipfile.ZipInfo(choose.pick(["feed.xml", "../x", "/etc/passwd", "d/"]), (1980, 1, 1, 0, 0, 0)), data
            )
            if choose.rarely():
                archive.writestr(zipfile.ZipInfo("b", (1980, 1, 1, 0, 0, 0)), data)
        data = buffer.getvalue()
    if shape == 3:
        n = choose.below(1 + len(data) % 1000)
        data = gzip.compress(data[:n], mtime=0) + gzip.compress(data[n:], mtime=0)
    if shape == 5:
        data = gzip.compress(gzip.compress(data, mtime=0), mtime=0)
    if shape == 6:
        data = gzip.compress(data, mtime=0)[: -1 - choose.below(30)]
    if shape == 7:
        data = gzip.compress(data, mtime=0)[:-8] + b"12345678" + bytes(choose.below(5)) + b"rest"
    if shape == 8:
        data = zlib.compress(data)
    return data


def make_feed(data: bytes) -> tuple[bytes, str]:
    "Make a feed file and its name."
    choose = Choices(data)
    name = choose.pick(NAMES)
    text = make_text(choose)
    encoding = choose.pick(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1255"])
    raw = text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "ignore")
    for _ in range(choose.pick([0, 0, 0, 0, 1, 3])):
        n = choose.below(len(raw) + 1)
        raw = [
            raw[:n],
            raw[:n] + bytes([choose.byte()]) + raw[n + 1 :],
            raw[:n] + raw[n + choose.below(9) :],
            raw[:n] + raw[choose.below(len(raw) + 1) :],
        ][choose.below(4)]
    return pack(choose, raw), name
