// Asking the server: every error is one sentence, a full queue is asked again.

const WAITS = 8;

export class Problem extends Error {}

async function answered(address, options, tries = WAITS) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer: is it still running?");
  }
  if (response.status === 503 && tries > 0) {
    const seconds = Number(response.headers.get("retry-after")) || 1;
    await new Promise((done) => setTimeout(done, 1000 * seconds));
    options?.signal?.throwIfAborted();
    return answered(address, options, tries - 1);
  }
  if (!response.ok) {
    const told = await response.json().catch(() => ({}));
    throw new Problem(told.error ?? `The server answered ${response.status}.`);
  }
  return response;
}

export const get = async (address, options) => (await answered(address, options)).json();

export const post = async (address, options) => (await answered(address, { ...options, method: "POST" })).json();

/** Each line of a stream as it comes. */
export async function* lines(address, options) {
  const response = await answered(address, options);
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
