// The API documentation, by Swagger UI. Requests that are tried out carry the CSRF token of the forms.
(() => {
  "use strict";
  const place = document.getElementById("api-docs");
  const root = document.documentElement;

  function applyTheme() {
    root.classList.toggle("dark-mode", root.dataset.bsTheme === "dark");
  }

  applyTheme();
  new MutationObserver(applyTheme).observe(root, { attributeFilter: ["data-bs-theme"] });
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
