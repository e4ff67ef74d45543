"""Writes the tables and arrays beside this script: python3 configs/data/make_tables.py"""
import csv
import math
import pathlib
import random
import struct
import zipfile

HERE = pathlib.Path(__file__).parent


def houses(n=480):
    """A price that follows from area, rooms, age and district, with noise of 12 (thousands)."""
    draw = random.Random(1)
    district = {"centre": 90.0, "harbour": 40.0, "hills": 65.0, "north": 0.0}
    for _ in range(n):
        area, age = draw.uniform(35, 220), draw.randint(0, 90)
        rooms = max(1, round(area / 28 + draw.gauss(0, 0.7)))
        where = draw.choice(sorted(district))
        garden = draw.random() < (0.7 if where in ("hills", "north") else 0.2)
        price = 40 + 1.9 * area + 6 * rooms - 60 * math.tanh(age / 40) + district[where] + 25 * garden + draw.gauss(0, 12)
        # Some ages are not known.
        yield [f"{area:.1f}", rooms, "" if draw.random() < 0.05 else age, where, "yes" if garden else "no", f"{price:.1f}"]


def shops(n=600):
    """Whether a customer comes back: rarely, sometimes, often."""
    draw = random.Random(2)
    for number in range(n):
        visits, spent = draw.randint(1, 30), draw.lognormvariate(3.5, 0.6)
        channel = draw.choice(["mail", "shop", "web"])
        member = draw.choice(["yes", "no"])
        score = 0.16 * visits + 0.02 * spent + {"mail": -0.8, "shop": 0.9, "web": 0.0}[channel] + (1.1 if member == "yes" else 0)
        score += draw.gauss(0, 0.35)
        back = "rarely" if score < 2.6 else "sometimes" if score < 4.6 else "often"
        gap = draw.random()
        yield [
            f"C{number:04}", visits, "NA" if gap < 0.04 else f"{spent:.2f}", "?" if gap > 0.97 else channel, member, back,
            "val" if number % 5 == 4 else "train",
        ]


def weather(n=600):
    """Which of rain, storm and fog a day has: none, one or several."""
    draw = random.Random(3)
    for _ in range(n):
        warm, damp, wind = draw.uniform(-5, 30), draw.uniform(20, 100), draw.expovariate(1 / 15)
        pressure = draw.gauss(1013 - wind / 4, 8)
        rain = damp / 20 - (pressure - 1010) / 8 + draw.gauss(0, 0.4) > 3.2
        storm = wind + draw.gauss(0, 2) > 24
        fog = damp / 20 - wind / 6 - warm / 15 + draw.gauss(0, 0.3) > 1.2
        yield [f"{warm:.1f}", f"{damp:.0f}", f"{wind:.1f}", f"{pressure:.1f}", int(rain), int(storm), int(fog)]


def words(n=900):
    """Words of three made-up languages, each with syllables of its own."""
    draw = random.Random(4)
    languages = {
        "low": (["k", "t", "p", "m", "n", "r"], ["a", "i", "u"], [""]),
        "mid": (["s", "t", "l", "n", "k", "v"], ["a", "e", "o", "i"], ["", "n", "s"]),
        "high": (["st", "kr", "bl", "t", "m", "sk"], ["e", "o", "u", "i"], ["rt", "n", "lk", "st"]),
    }
    for _ in range(n):
        name = draw.choice(sorted(languages))
        begin, middle, end = languages[name]
        word = "".join(draw.choice(begin) + draw.choice(middle) + draw.choice(end) for _ in range(draw.randint(2, 3)))
        yield [word, name]


def sums(seed, n):
    """Sums in words, as "three and nine are twelve."."""
    draw = random.Random(seed)
    ones = "nought one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
    for _ in range(n):
        a, b = draw.randint(0, 8), draw.randint(0, 8)
        yield [f"{ones[a]} and {ones[b]} are {ones[a + b]}."]


def parcels(n=400, size=12):
    """Parcels on a conveyor: a picture says of what kind each is, a table what it weighs and where it goes. The postage
    follows from both."""
    draw = random.Random(5)
    pictures, tables, kinds, postages = [], [], [], []
    for number in range(n):
        kind = number % 3  # box, tube, letter
        radius = draw.uniform(2.5, 4.5)
        across, down = draw.uniform(4.5, size - 5.5), draw.uniform(4.5, size - 5.5)
        for y in range(size):
            for x in range(size):
                square = max(abs(x - across), abs(y - down))
                round_ = math.hypot(x - across, y - down)
                inside = [square < radius, round_ < radius, radius - 1.2 < square < radius][kind]
                pictures.append(draw.randint(0, 7) * 8 + (120 if inside else 0))
        weight, length, distance = draw.uniform(0.1, 5), draw.uniform(10, 60), draw.uniform(5, 900)
        express, insured = draw.randint(0, 1), draw.randint(0, 1)
        tables += [weight, length, distance, express, insured]
        kinds.append(kind)
        postage = 3 + [2.5, 1.5, 0][kind] + 1.1 * weight + 0.004 * distance + 3 * express + 2 * insured
        postages.append(postage + draw.gauss(0, 0.1))
    return {
        "picture": ("|u1", (n, 1, size, size), bytes(pictures)),
        "table": ("<f4", (n, 5), struct.pack(f"<{n * 5}f", *tables)),
        "target": ("<i8", (n,), struct.pack(f"<{n}q", *kinds)),
        "postage": ("<f4", (n, 1), struct.pack(f"<{n}f", *postages)),
    }


def write_npz(name, arrays):
    """As numpy.savez_compressed, byte for byte the same each time."""
    with zipfile.ZipFile(HERE / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for field, (kind, shape, data) in arrays.items():
            header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
            header += " " * (-(len(header) + 11) % 64) + "\n"
            npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data
            entry = zipfile.ZipInfo(f"{field}.npy", (2026, 1, 1, 0, 0, 0))
            archive.writestr(entry, npy, zipfile.ZIP_DEFLATED, 9)


def write(name, header, rows, delimiter=","):
    with open(HERE / name, "w", newline="") as file:
        out = csv.writer(file, lineterminator="\n", delimiter=delimiter)
        if header:
            out.writerow(header)
        out.writerows(rows)


write("houses.csv", ["area", "rooms", "age", "district", "garden", "price"], houses())
write("shops.csv", ["customer", "visits", "spent", "channel", "member", "comes_back", "part"], shops())
write("weather.csv", ["warmth", "damp", "wind", "pressure", "rain", "storm", "fog"], weather())
write("words.tsv", None, words(), "\t")
write("sums_train.txt", None, sums(6, 600), "\t")
write("sums_val.txt", None, sums(7, 100), "\t")
write_npz("parcels.npz", parcels())
