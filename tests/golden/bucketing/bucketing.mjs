// A second implementation of the bucketing, for Node 20 or newer, with nothing but its standard library.
// node tests/golden/bucketing/bucketing.mjs [vectors.json]   exits 1 and lists every mismatch if it disagrees with the vectors.
import { createHash } from "node:crypto";
import { readFileSync, realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The unit's canonical text: a BigInt's decimal digits, or the string itself. Plain numbers lose digits above 2^53. */
export function canonicalUnitId(unitId) {
  if (typeof unitId === "bigint") return unitId.toString();
  if (typeof unitId !== "string") throw new TypeError(`a unit id must be a string or a BigInt, not ${typeof unitId}`);
  if (unitId === "") throw new RangeError("the unit id is empty");
  if (!unitId.isWellFormed()) throw new RangeError("the unit id holds a lone surrogate");
  return unitId;
}

/** The MD5 of one draw, as 32 hexadecimal digits. */
export function drawHash(unitId, salt) {
  const text = canonicalUnitId(unitId);
  return createHash("md5").update(salt === "" ? text : `${salt}:${text}`, "utf8").digest("hex");
}

/** The bucket of a unit in one draw, in [0, numBuckets). */
export function bucketOf(unitId, salt, numBuckets) {
  return Number(BigInt(`0x${drawHash(unitId, salt)}`) % BigInt(numBuckets));
}

function typed(type, text) {
  return type === "integer" ? BigInt(text) : text;
}

function mismatches(vectors) {
  const found = [];
  const expect = (what, expected, actual) => {
    if (expected !== actual) found.push(`${what}: expected ${expected}, got ${actual}`);
  };
  vectors.cases.forEach((item, place) => {
    const unitId = typed(item.type, item.unit_id);
    expect(`cases[${place}].md5`, item.md5, drawHash(unitId, item.salt));
    expect(`cases[${place}].bucket`, item.bucket, bucketOf(unitId, item.salt, item.num_buckets));
  });
  vectors.plain.forEach((item, place) => {
    const bucket = bucketOf(typed(item.type, item.user_id), "", 100);
    expect(`plain[${place}].bucket`, item.bucket, bucket);
    expect(`plain[${place}].treatment`, item.treatment, bucket < 10);
  });
  vectors.refused.forEach((item, place) => {
    try {
      const bucket = bucketOf(typed(item.type, item.unit_id), item.salt, item.num_buckets);
      found.push(`refused[${place}]: expected a refusal, got ${bucket}`);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  });
  return found;
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const path = process.argv[2] ?? fileURLToPath(new URL("vectors.json", import.meta.url));
  const vectors = JSON.parse(readFileSync(path, "utf8"));
  const found = mismatches(vectors);
  for (const line of found) console.error(line);
  console.log(`${vectors.cases.length} cases, ${vectors.plain.length} plain, ${vectors.refused.length} refused: ${found.length} mismatches`);
  process.exit(found.length === 0 ? 0 : 1);
}
