// What a person answered before this page was opened.

const PAGE_SIZE = 1000;

// Returns the standing answers of an annotator in the order in which they were made.
export async function pastAnswers(api, project, annotator) {
  const found = [];
  let pageToken = "";
  do {
    const query = { annotator, pageSize: PAGE_SIZE, pageToken };
    const page = await api.patiently(() => api.get(`/v1/${project}/annotations`, query));
    for (const one of page.annotations) {
      if (!one.current) continue;
      const labels = one.answer?.choice?.labels ?? [];
      found.push({ name: one.assignment, annotation: one.name, key: one.key, labels });
    }
    pageToken = page.nextPageToken;
  } while (pageToken);
  return found;
}
