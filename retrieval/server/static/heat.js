// Heatmaps drawn over pictures, in the colours of the command line.

const FINE = 8; // pixels of the canvas for each place of the grid; the browser smooths the rest
const OPACITY = 0.62;
const EASE = 0.75;
const SHADE = 0.8; // of places that do not correspond to the one under the pointer
const STRENGTHS = [[0.02, "none"], [0.25, "faint"], [0.6, "moderate"]];

/** By kind, the colour of each level of evidence from 0 to 255, with its opacity: RGBA. */
const palettes = fetch("colours.json").then((response) => response.json()).then((colours) =>
  Object.fromEntries(Object.entries(colours).map(([kind, levels]) => [kind, makePalette(levels)])));

function makePalette(levels) {
  const bytes = new Uint8ClampedArray(4 * levels.length);
  levels.forEach((colour, level) => bytes.set([...colour, Math.round(255 * OPACITY * (level / 255) ** EASE)], 4 * level));
  return new Uint32Array(bytes.buffer);
}

/** Bicubic weights of the four places around a point at a distance t (0 to 1) after the second. */
function weights(t) {
  const a = -0.5;
  const near = (x) => ((a + 2) * x - (a + 3)) * x * x + 1;
  const far = (x) => ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return [far(1 + t), near(t), near(1 - t), far(2 - t)];
}

/** Rows, `FINE` times as long by bicubic interpolation. */
function upsample(rows) {
  return rows.map((row) => {
    const long = new Float32Array(row.length * FINE);
    for (let x = 0; x < long.length; x += 1) {
      const at = (x + 0.5) / FINE - 0.5;
      const first = Math.floor(at);
      weights(at - first).forEach((weight, k) => {
        long[x] += weight * row[Math.min(Math.max(first - 1 + k, 0), row.length - 1)];
      });
    }
    return long;
  });
}

const transpose = (rows) => Array.from({ length: rows[0].length }, (_, x) => Float32Array.from(rows, (row) => row[x]));

/** Draw a heatmap (rows of 0 to 1) on a canvas; `strength` is its magnitude over the largest of the query. */
export async function drawHeat(canvas, rows, kind, strength) {
  const palette = (await palettes)[kind];
  const fine = transpose(upsample(transpose(upsample(rows))));
  canvas.height = fine.length;
  canvas.width = fine[0].length;
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  const most = 255 * Math.min(strength, 1);
  fine.forEach((row, y) => row.forEach((value, x) => {
    pixels[y * canvas.width + x] = palette[Math.round(most * Math.min(Math.max(value, 0), 1))];
  }));
  context.putImageData(image, 0, 0);
}

/** The strength of the strongest place, in a word. */
export function evidence(maps, kind, scale) {
  const strength = scale > 0 ? maps.magnitude / scale : 0;
  const peak = strength * Math.max(...maps[kind].flat());
  return (STRENGTHS.find(([limit]) => peak < limit) ?? [0, "strong"])[1];
}

/** How strongly each place of the other picture corresponds to one of this: rows of 0 to 1. */
export function correspondence(matches, place, fromQuery) {
  const [rows, columns] = fromQuery ? matches.hit_grid : matches.query_grid;
  const values = fromQuery ? matches.table[place] : matches.table.map((row) => row[place]);
  const largest = Math.max(...values, 1e-9);
  return Array.from({ length: rows }, (_, y) => values.slice(y * columns, (y + 1) * columns).map((v) => v / largest));
}

/** Darken the places by how little they correspond. */
export function drawCorrespondence(canvas, rows) {
  const fine = transpose(upsample(transpose(upsample(rows))));
  canvas.height = fine.length;
  canvas.width = fine[0].length;
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  fine.forEach((row, y) => row.forEach((value, x) => {
    image.data[4 * (y * canvas.width + x) + 3] = Math.round(255 * SHADE * (1 - Math.min(Math.max(value, 0), 1)));
  }));
  context.putImageData(image, 0, 0);
}

/** Draw the colours from no evidence to the strongest, as over mid grey. */
export async function drawLegend(canvas, kind) {
  [canvas.width, canvas.height] = [256, 1];
  const context = canvas.getContext("2d");
  const image = context.createImageData(256, 1);
  new Uint32Array(image.data.buffer).set((await palettes)[kind]);
  context.putImageData(image, 0, 0);
}
