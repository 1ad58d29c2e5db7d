// Elements made of names and text, never of markup: a file's name is only ever text.

export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const percent = (share) => {
  const text = (100 * share).toFixed(1);
  return `${text === "100.0" && share < 1 - 1e-6 ? "99.9" : text} %`;
};

export const bytes = (count) =>
  count < 1e6 ? `${Math.max(1, Math.round(count / 1e3)).toLocaleString("en")} kB` : `${(count / 1e6).toFixed(1)} MB`;

export const plural = (count, one, many) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

const announcer = document.getElementById("announcer");

/** Announce a sentence to screen readers. */
export function announce(sentence) {
  announcer.textContent = sentence;
}
