// One POST /rank per arrival, from bodies written beforehand. Arrivals come at a constant rate and never wait for answers.
//
// Every sample carries its iteration's number (metadata, so that k6 keeps one time series), which lets the reader of the CSV
// count latency from the moment the arrival was due. Of a fixed share of the arrivals the answer is read as well, and what
// it says goes out as one `inspected` sample: JSON.parse on every answer would cost the generator more than sending.
import { SharedArray } from 'k6/data';
import exec from 'k6/execution';
import { open as openShared, SeekMode } from 'k6/experimental/fs';
import http from 'k6/http';
import { Counter } from 'k6/metrics';

const settings = JSON.parse(open(__ENV.LOADTEST_SETTINGS));
// The bodies stay in one file that all virtual users share: an element of a SharedArray is parsed from JSON on each use, which
// at 4 KB a body costs k6 more than the request. Here are only the places where lines begin; bodies are ASCII.
const file = await openShared(settings.payloads_path);
const places = new SharedArray('places', () => {
  const text = open(settings.payloads_path);
  const found = [0];
  for (let end = text.indexOf('\n'); end !== -1; end = text.indexOf('\n', end + 1)) {
    found.push(end + 1);
  }
  return found;
});

const scheduleStart = new Counter('schedule_start');
const inspected = new Counter('inspected');

export const options = {
  discardResponseBodies: true,
  systemTags: ['status', 'error_code'],
  userAgent: 'rankline-loadtest',
  scenarios: {
    rank: {
      executor: 'constant-arrival-rate',
      rate: settings.rate_per_s,
      timeUnit: '1s',
      duration: `${settings.total_ms}ms`,
      gracefulStop: `${settings.timeout_ms + 1000}ms`,
      preAllocatedVUs: settings.vus_max,
      maxVUs: settings.vus_max,
    },
  },
};

const HEADERS = { 'Content-Type': 'application/json' };
const UNREAD = { headers: HEADERS, timeout: settings.timeout_ms, redirects: 0, responseType: 'none' };
const READ = { headers: HEADERS, timeout: settings.timeout_ms, redirects: 0, responseType: 'text' };
const MAX_TEXT = 300;

export default async function rank() {
  const iteration = exec.scenario.iterationInTest;
  const metadata = exec.vu.metrics.metadata;
  metadata.iteration = String(iteration);
  if (iteration === 0) {
    scheduleStart.add(exec.scenario.startTime);
  }
  const body = await bodyOf(iteration);
  const read = isInspected(iteration);
  const response = http.post(settings.url, body.buffer, read ? READ : UNREAD);
  if (read && response.status !== 0) {
    metadata.iteration = `${iteration} ${JSON.stringify(inspect(response, JSON.parse(textOf(body))))}`;
    inspected.add(1);
    metadata.iteration = String(iteration);
  }
}

async function bodyOf(iteration) {
  const line = iteration % (places.length - 1);
  const start = places[line];
  const body = new Uint8Array(places[line + 1] - start - 1);
  await file.seek(start, SeekMode.Start);
  if ((await file.read(body)) !== body.length) {
    throw new Error(`${settings.payloads_path} ends within line ${line + 1}`);
  }
  return body;
}

function textOf(body) {
  let text = '';
  for (let start = 0; start < body.length; start += 4096) {
    text += String.fromCharCode(...body.subarray(start, start + 4096));
  }
  return text;
}

// Spread over the iterations by a multiplicative hash: "every tenth" would meet the same tenth of the bodies again and again.
function isInspected(iteration) {
  return Math.imul(iteration + 1, 0x9e3779b1) >>> 0 < 4294967296 / settings.inspect_every;
}

function inspect(response, request) {
  const text = response.body === null ? '' : response.body;
  if (response.status !== 200) {
    return { problem: text.slice(0, MAX_TEXT) };
  }
  let answer;
  try {
    answer = JSON.parse(text);
  } catch (_) {
    return { fault: 'not JSON' };
  }
  if (answer === null || typeof answer !== 'object') {
    return { fault: 'not a JSON object' };
  }
  return {
    fault: faultOf(answer, request),
    degraded: answer.degraded === undefined ? null : answer.degraded,
    timings_ms: answer.timings_ms === undefined ? null : answer.timings_ms,
    model: answer.model === undefined ? null : answer.model,
  };
}

// What is wrong with the answer to this very request; '' when nothing is.
function faultOf(answer, request) {
  if (answer.user_id !== request.user_id) {
    return 'answers another user';
  }
  if (!Array.isArray(answer.items)) {
    return 'has no items';
  }
  const most = request.candidates.length;
  const asked = request.top_k === undefined ? most : Math.min(request.top_k, most);
  const fewest = request.top_k === undefined ? 1 : asked; // unasked, the arm may set a top_k of its own
  if (answer.items.length > asked || answer.items.length < fewest) {
    return 'wrong number of items';
  }
  return sameIdentities(answer.items, request.candidates) ? '' : 'an item that was no candidate, or comes twice';
}

// Beyond 2^53 two ids can become one number here, so such candidates are only counted.
function sameIdentities(items, candidates) {
  if (!candidates.every((id) => typeof id === 'string' || Number.isSafeInteger(id))) {
    return true;
  }
  const left = new Set(candidates);
  return items.every((item) => item !== null && typeof item === 'object' && left.delete(item.id));
}
