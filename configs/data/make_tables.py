"""Writes houses.csv and shops.csv beside this script: python3 configs/data/make_tables.py"""
import csv
import math
import pathlib
import random

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


def write(name, header, rows):
    with open(HERE / name, "w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(header)
        out.writerows(rows)


write("houses.csv", ["area", "rooms", "age", "district", "garden", "price"], houses())
write("shops.csv", ["customer", "visits", "spent", "channel", "member", "comes_back", "part"], shops())
