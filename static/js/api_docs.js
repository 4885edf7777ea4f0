// The description of the API, by Swagger UI. Requests that are tried out carry the token that forms carry too.
(() => {
  "use strict";
  const place = document.getElementById("api-docs");
  const root = document.documentElement;

  function suitTheme() {
    root.classList.toggle("dark-mode", root.dataset.bsTheme === "dark");
  }

  suitTheme();
  new MutationObserver(suitTheme).observe(root, { attributeFilter: ["data-bs-theme"] });
  window.SwaggerUIBundle({
    url: place.dataset.url,
    domNode: place,
    deepLinking: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    validatorUrl: null,
    syntaxHighlight: false,
    requestInterceptor: (request) => {
      request.headers["X-CSRFToken"] = place.dataset.csrf;
      return request;
    },
  });
})();
