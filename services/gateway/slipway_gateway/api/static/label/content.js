// The example of a task, fetched and decoded before it is its turn.

const TEXTS = /^(text\/|application\/(json|xml|x-ndjson|yaml|csv)|[^;]*\+(json|xml)(;|$))/;

// Returns {kind: "image", image} | {kind: "text", text} | {kind: "none", trouble}.
export async function loadContent(api, task, wanted) {
  let media;
  try {
    media = await api.patiently(() => api.get(`/v1/${task}:media`), wanted);
  } catch (refusal) {
    return { kind: "none", trouble: refusal.message, refusal };
  }
  const bytes = Uint8Array.from(atob(media.data), (letter) => letter.charCodeAt(0));
  if (media.mediaType.startsWith("image/")) return decodeImage(bytes, media.mediaType);
  const text = TEXTS.test(media.mediaType) ? decodeText(bytes) : null;
  if (text !== null) return { kind: "text", text };
  return { kind: "none", trouble: `this page cannot show ${media.mediaType || "bytes of an unknown type"}` };
}

async function decodeImage(bytes, type) {
  const image = new Image();
  const url = URL.createObjectURL(new Blob([bytes], { type }));
  image.src = url;
  try {
    await image.decode();
  } catch {
    return { kind: "none", trouble: `the image is damaged, or of a kind that this browser cannot show (${type})` };
  } finally {
    URL.revokeObjectURL(url);
  }
  return { kind: "image", image };
}

function decodeText(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}
