// One POST /rank per arrival, from bodies written beforehand. Arrivals come at a constant rate and never wait for answers.
//
// Every sample carries its iteration's number (metadata, so that k6 keeps one time series), which lets the reader of the CSV
// count latency from the moment the arrival was due. Of a fixed share of the arrivals the answer is read as well, and what
// it says goes out as one `inspected` sample: JSON.parse on every answer would cost the generator more than sending.
import { SharedArray } from 'k6/data';
import exec from 'k6/execution';
import http from 'k6/http';
import { Counter } from 'k6/metrics';

const settings = JSON.parse(open(__ENV.LOADTEST_SETTINGS));
const bodies = new SharedArray('bodies', () => open(settings.payloads_path).split('\n').filter((line) => line !== ''));

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

export default function rank() {
  const iteration = exec.scenario.iterationInTest;
  const metadata = exec.vu.metrics.metadata;
  metadata.iteration = String(iteration);
  if (iteration === 0) {
    scheduleStart.add(exec.scenario.startTime);
  }
  const body = bodies[iteration % bodies.length];
  const read = isInspected(iteration);
  const response = http.post(settings.url, body, read ? READ : UNREAD);
  if (read && response.status !== 0) {
    metadata.iteration = `${iteration} ${JSON.stringify(inspect(response, JSON.parse(body)))}`;
    inspected.add(1);
    metadata.iteration = String(iteration);
  }
}

// Spread over the iterations by a multiplicative hash: "every tenth" would meet the same tenth of the bodies again and again.
function isInspected(iteration) {
  return iteration % settings.inspect_every === 0;
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
