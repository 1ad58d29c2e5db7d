// Requests to the server: every error is one sentence; requests to a full queue are repeated.

const RETRIES = 8;

export class Problem extends Error {}

async function request(address, options, retries = RETRIES) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer: is it still running?");
  }
  if (response.status === 503 && retries > 0) {
    const seconds = Number(response.headers.get("retry-after")) || 1;
    await new Promise((done) => setTimeout(done, 1000 * seconds));
    options?.signal?.throwIfAborted();
    return request(address, options, retries - 1);
  }
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new Problem(problem.error ?? `The server answered ${response.status}.`);
  }
  return response;
}

export const get = async (address, options) => (await request(address, options)).json();

export const post = async (address, options) => (await request(address, { ...options, method: "POST" })).json();

/** Yield the objects of a stream of lines as they arrive. */
export async function* lines(address, options) {
  const response = await request(address, options);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    const parts = (rest + (value ?? "")).split("\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part);
    if (done) return;
  }
}

/** An address with those parameters that have a value. */
export function withParameters(address, parameters) {
  const chosen = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return `${address}?${new URLSearchParams(chosen)}`;
}
