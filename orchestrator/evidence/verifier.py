"""A verifier that stands alone: this one file and Python 3.9 or newer. Copy it, read it, run it.

    python verifier.py log  --key VKEY [--key OLDER-VKEY ...] log.jsonl checkpoints.txt ...
    python verifier.py pack --key VKEY [--key OLDER-VKEY ...] pack.zip
`log`: a whole log against signed checkpoints. `pack`: the evidence of one saga. Keys: what you pinned, newest first.
Exit code 0: as written; 6: not so, and why; 2: no file. Nothing that it reads is run, or written to disk.
"""

import argparse
import base64
import functools
import hashlib
import json
import re
import sqlite3
import zipfile
from pathlib import Path

# RFC 9162 (tree), C2SP signed-note, tlog-checkpoint; Ed25519 of RFC 8032: (X, Y, Z, T), x = X/Z, y = Y/Z, x * y = T/Z
P, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
NOTE = re.compile(r"(?:[^\n]+\n)+\n(?:\u2014 [^\n]*\n?)+")  # lines, an empty one, signatures
NAME = re.compile(r"(?:[\w~%-][\w.~%-]*/)*[\w~%-][\w.~%-]*", re.ASCII)  # of a file in a pack: below it, not hidden
D, BASE = -121665 * pow(121666, P - 2, P) % P, (4 * pow(5, P - 2, P) % P).to_bytes(32, "little")


def add(a, b):
    e, f = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    g, h = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = f - e, h - g, h + g, f + e
    return e * f % P, g * h % P, f * g % P, e * h % P


@functools.lru_cache(maxsize=16)  # the base and the keys come again with each signature
def doubled(raw):
    return functools.reduce(lambda found, _: [*found, add(found[-1], found[-1])], range(255), [point_of(raw)])


def times(scalar, raw):
    return functools.reduce(add, (one for bit, one in enumerate(doubled(raw)) if scalar >> bit & 1), (0, 1, 1, 0))


def point_of(raw):
    sign, y = raw[31] >> 7, int.from_bytes(raw, "little") & (2**255 - 1)
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = x if (x := pow(square, (P + 3) // 8, P)) * x % P == square else x * pow(2, (P - 1) // 4, P) % P
    if len(raw) != 32 or y >= P or x * x % P != square or (x == 0 and sign):
        raise ValueError("no point of the curve")
    return (x if x & 1 == sign else P - x), y, 1, (x if x & 1 == sign else P - x) * y % P


def is_signed(public, text, signature):
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + text).digest(), "little") % ORDER
    s = int.from_bytes(signature[32:], "little")
    a, b = times(s, BASE), add(point_of(signature[:32]), times(k, public))
    return len(signature) == 64 and s < ORDER and all((a[i] * b[2] - b[i] * a[2]) % P == 0 for i in (0, 1))


def key_of(vkey):
    name, key_id, key = vkey.strip().split("+", 2)
    raw = base64.b64decode(key, validate=True)
    if len(raw) != 33 or raw[0] != 1 or hashlib.sha256(name.encode() + b"\n" + raw).hexdigest()[:8] != key_id:
        raise ValueError(f"{vkey[:60]} is no key, or was not copied whole")
    return name, bytes.fromhex(key_id), raw[1:]


def opened(note, keys):  # the lines of a note, and how old the key is that signed it; 0 is the newest
    text, _, signatures = note.rpartition("\n\n")
    for line in signatures.splitlines():
        name, _, content = line.removeprefix("\u2014 ").partition(" ")
        raw = base64.b64decode(content, validate=True)
        for age, (known, key_id, public) in enumerate(keys):
            is_ours = (name, raw[:4]) == (known, key_id) and text.split("\n")[0] in (name, name + "/evidence")
            if is_ours and is_signed(public, text.encode() + b"\n", raw[4:]):
                return text.split("\n"), age
    raise ValueError(f"no trusted key signed the text that begins with {text[:40]!r}")


def checkpoint_of(note, keys):
    lines, age = opened(note, keys)
    more = [line.split() for line in lines[3:]]
    number = next((int(words[1]) for words in more if words[0] == "checkpoint"), 0)
    broken = {(int(words[1]), base64.b64decode(words[2])) for words in more if words[0] == "break"}
    return {"size": int(lines[1]), "root": base64.b64decode(lines[2]), "number": number, "age": age, "broken": broken}


def node(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_by_path(index, last, leaf, path):  # of the leaf at `index`, where `last` is the index of the last one
    for one in path:
        leaf = node(one, leaf) if index & 1 or index == last else node(leaf, one)
        while index and index == last and not index & 1:
            index, last = index >> 1, last >> 1
        index, last = index >> 1, last >> 1
    return leaf if last == 0 else b""


def link(body, saga, version, before, say):  # is this the record behind the one with hash `before`?
    twice = []  # a name that stands twice shows one value to some readers, and another one to others
    fields = json.loads(body, object_pairs_hook=lambda all: twice.append(len(all) > len(dict(all))) or dict(all))
    if any(twice):
        say(f"saga {saga}, record {version}: a name stands twice in it")
    for name, wanted in (("saga", saga), ("version", version), ("previous", before or "0" * 64)):
        if fields[name] != wanted:
            say(f"saga {saga}, record {version}: its {name} is {fields[name]}, expected {wanted}")


def log(file, texts, keys, say):  # says what is wrong with an export; gives how much there is
    wanted, heads, peaks, size, judged, covered = [], sqlite3.connect(""), [], 0, 0, 0
    heads.execute("CREATE TABLE heads (saga PRIMARY KEY, version, hash) WITHOUT ROWID")  # in a file: memory stays small
    for note in (note for text in texts for note in re.findall(NOTE, text)):
        try:
            wanted.append(checkpoint_of(note, keys))
        except (ValueError, IndexError) as error:
            say(f"checkpoint {' '.join(note.split()[:2])[:80]}: {error}")
    if (ages := [one["age"] for one in sorted(wanted, key=lambda one: one["number"])]) != sorted(ages, reverse=True):
        say("a checkpoint is signed by a key that was retired before")
    wanted.sort(key=lambda one: (-one["size"], -one["number"]))
    broken = {tree for one in wanted for tree in one["broken"]}
    with file.open(encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            body, saga, version, size = record["body"].encode(), record["saga"], record["version"], size + 1
            where = f"position {record['position']}, saga {saga}, record {version}"
            last, before = heads.execute("SELECT version, hash FROM heads WHERE saga = ?", [saga]).fetchone() or (0, "")
            if (record["position"], version) != (size, last + 1):
                say(f"{where}: expected position {size}, record {last + 1}: some are missing, added or moved")
            if hashlib.sha256(body).hexdigest() != record["hash"]:
                say(f"{where}: its bytes do not have its hash")
            link(body, saga, version, before, say)
            heads.execute("REPLACE INTO heads VALUES (?, ?, ?)", (saga, version, record["hash"]))
            peaks.append(hashlib.sha256(b"\x00" + body).digest())  # roots of complete subtrees, the largest first
            for _ in range((size & -size).bit_length() - 1):
                peaks[-2:] = [node(*peaks[-2:])]
            while wanted and wanted[-1]["size"] == size:
                judged, covered, one = judged + 1, size, wanted.pop()
                root = functools.reduce(lambda right, left: node(left, right), reversed(peaks))
                if one["root"] != root and (one["size"], one["root"]) not in broken:
                    say(f"checkpoint {one['number']} over {size} records: these records have another root")
    for one in (one for one in wanted if (one["size"], one["root"]) not in broken):
        say(f"checkpoint {one['number']} covers {one['size']} records, the log ends at {size}")
    if not judged:
        say("no checkpoint that a trusted key signed covers any of these records: anybody could have written them")
    sagas = heads.execute("SELECT count(*) FROM heads").fetchone()[0]
    return f"{size} records of {sagas} sagas, {judged} checkpoints, {size - covered} records younger than the last"


def pack(file, _, keys, say):  # says what is wrong with an evidence pack, or the folder of one; gives what it is about
    if file.is_dir():
        paths = [path for path in file.rglob("*") if path.is_symlink() or path.is_file()]
        entries = [(one.relative_to(file).as_posix(), b"" if one.is_symlink() else one.read_bytes()) for one in paths]
    else:
        with zipfile.ZipFile(file) as archive:
            found = archive.infolist()
            if any(one.compress_type for one in found) or sum(one.file_size for one in found) > file.stat().st_size:
                raise ValueError("a pack is not compressed, nor larger than its file: somebody has packed it again")
            entries = [(one.filename, archive.read(one)) for one in found]
    note, _ = opened((held := dict(entries))["manifest.note"].decode(), keys)
    if note[1:] != [hashlib.sha256(held["manifest.json"]).hexdigest()] or len(held) != len(entries):
        say("manifest.json is not the one that manifest.note was signed over, or some name is there twice")
    manifest = json.loads(held["manifest.json"])
    for name in sorted({*manifest["files"], *held} - {"manifest.json", "manifest.note"}):
        fits = name in held and hashlib.sha256(held[name]).hexdigest() == manifest["files"].get(name)
        if not fits or not NAME.fullmatch(name):
            say(f"{name} is missing, was added or changed, or is no name of a file in a pack")
    signed = checkpoint_of(held["checkpoint.txt"].decode(), keys)
    for folder in sorted({"", *("/".join(name.split("/")[:2]) + "/" for name in held if name.startswith("related/"))}):
        proofs = {one["version"]: one for one in json.loads(held[folder + "proofs.json"])["leaves"]}
        records, before = sorted(name for name in held if name.startswith(folder + "records/")), ""
        saga = json.loads(held[records[0]])["saga"] if folder else manifest["saga"]
        for version, name in enumerate(records, start=1):
            link(held[name], saga, version, before, say)
            before, leaf = hashlib.sha256(held[name]).hexdigest(), hashlib.sha256(b"\x00" + held[name]).digest()
            at, path = proofs[version]["position"], [bytes.fromhex(one) for one in proofs[version]["path"]]
            if not 0 < at <= signed["size"] or root_by_path(at - 1, signed["size"] - 1, leaf, path) != signed["root"]:
                say(f"{name} is not in the tree that checkpoint {signed['number']} signed")
        if len(proofs) != len(records) or not records or saga not in (manifest["saga"], *manifest["related"]):
            say(f"saga {saga}: {len(records)} records and {len(proofs)} proofs, or it is not named in manifest.json")
    return f"saga {manifest['saga']}: {sum('records/' in name for name in held)} records, checkpoint {signed['number']}"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["log", "pack"])
    parser.add_argument("--key", action="append", required=True, help="a public key, name+id+key; newest first")
    parser.add_argument("files", nargs="+", type=Path)
    given, flaws = parser.parse_args(arguments), []
    try:
        keys, texts = [key_of(text) for text in given.key], [file.read_text("utf-8") for file in given.files[1:]]
        what, code = (log if given.what == "log" else pack)(given.files[0], texts, keys, flaws.append), 6 * bool(flaws)
    except Exception as error:  # an encrypted zip, unknown compression, nesting without end: nothing to believe
        code = 2 if type(error) in (FileNotFoundError, PermissionError) else 6
        what = f"it cannot be read any further: {type(error).__name__}: {error}"
    said = [*flaws, f"{what}: {'NOT as it was written' if code else 'as it was written'}"]
    print(*(ascii(line)[1:-1] for line in said), sep="\n")  # nothing in it controls the terminal
    return code


if __name__ == "__main__":
    raise SystemExit(main())
