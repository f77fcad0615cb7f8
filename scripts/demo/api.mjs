/** The REST API as any client uses it: real HTTP, a key in a header, an envelope around each answer. */
export class Api {
  constructor(url, key, signal) {
    this.url = `${url}/api`;
    this.key = key;
    this.signal = signal;
  }

  get(path) {
    return this.call('GET', path);
  }

  post(path, body = {}) {
    return this.call('POST', path, body);
  }

  /**
   * Follows a run by server-sent events, and gives it when it has ended.
   * @param onProgress is told `{ phase, percent, … }` at each change
   * @throws Error with the run's own message and hint, when it did not complete
   */
  async follow(path, onProgress) {
    const response = await fetch(`${this.url}/${path}/progress`, { headers: { 'x-api-key': this.key }, signal: this.signal });
    if (!response.ok) throw failure(await response.json(), path);
    let run;
    for await (const { event, data } of eventsOf(response.body)) {
      if (event === 'progress' && data.progress) onProgress(data.progress);
      if (event === 'end') run = data;
    }
    return completed(run, path);
  }

  async call(method, path, body) {
    const response = await fetch(`${this.url}/${path}`, {
      method,
      headers: { 'x-api-key': this.key, ...(body ? { 'content-type': 'application/json' } : {}) },
      signal: this.signal,
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
    const answer = await response.json();
    if (!answer.success) throw failure(answer, path);
    return answer.data;
  }
}

/** @throws Error with the run's own message and hint, when it did not complete */
export function completed(run, what) {
  if (run?.status === 'completed') return run;
  const { message = `The run ended as ${run?.status ?? 'nothing'} (${what}).`, hint = '' } = run?.error ?? {};
  throw new Error(`${message} ${hint}`.trim());
}

function failure({ error, code, fields }, path) {
  const details = Object.entries(fields ?? {}).map(([name, why]) => `${name}: ${why}`);
  return new Error([`${path}: ${error} (${code})`, ...details].join('\n'));
}

async function* eventsOf(body) {
  let text = '';
  for await (const chunk of body.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const fields = text
        .slice(0, end)
        .split('\n')
        .map((line) => line.split(/: ?(.*)/s));
      text = text.slice(end + 2);
      const { event, data } = Object.fromEntries(fields);
      if (data) yield { event, data: JSON.parse(data) };
    }
  }
}
