;;; greencode-core.el --- Settings, status and servers of GreenCode  -*- lexical-binding: t; -*-

;; SPDX-License-Identifier: MIT

;;; Commentary:

;; What the rest of the package shares: the settings and how they look to the server, the latest status of each server,
;; and the few things a server can be asked, whoever keeps the connection: `greencode-server', Eglot or lsp-mode.

;;; Code:

(require 'cl-lib)
(require 'jsonrpc)
(require 'subr-x)
(require 'url-util)

(defgroup greencode nil
  "Code completion that is worth its energy."
  :group 'tools
  :prefix "greencode-")

(defcustom greencode-command '("greencode-lsp" "--stdio")
  "The server's program and its arguments.
A project's own value is ignored."
  :type '(repeat string)
  :risky t)

;;;; Settings of the server

(defconst greencode--preference-type
  '(choice (const "accuracy") (const "balanced") (const "energy") (number :tag "From 0 (sparing) to 1 (lossless)")))

(defcustom greencode-preference "balanced"
  "Accuracy against energy; takes effect with the next token.
\"accuracy\" is lossless, \"energy\" the most sparing; a number goes
from 1 (lossless) down to 0."
  :type greencode--preference-type
  :safe (lambda (value) (or (stringp value) (numberp value))))

(defcustom greencode-min-agreement nil
  "The share of the full model's tokens to keep, from 0.5 to 1.
Overrides the threshold of `greencode-preference'; nil leaves it."
  :type '(choice (const :tag "As the preference says" nil) number)
  :safe (lambda (value) (or (null value) (numberp value))))

(defcustom greencode-on-battery "same"
  "The preference on battery power: \"same\", \"pause\", or a preference."
  :type `(choice (const "same") (const "pause") ,greencode--preference-type)
  :safe (lambda (value) (or (stringp value) (numberp value))))

(defcustom greencode-exit-policy "auto"
  "Who decides at which layer a token exits the model."
  :type '(choice (const "auto") (const "agent") (const "confidence") (const "fixed") (const "never"))
  :safe #'stringp)

(defcustom greencode-device "auto"
  "Where the model runs.  A project's own value is ignored."
  :type '(choice (const "auto") (const "cpu") (const "cuda"))
  :risky t)

(define-obsolete-variable-alias 'greencode-numeric 'greencode-precision "0.1")
(defcustom greencode-precision "auto"
  "How the model computes.  A project's own value is ignored."
  :type '(choice (const "auto") (const "int8") (const "mixed") (const "int4")
                 (const "bfloat16") (const "float32"))
  :risky t)

(defcustom greencode-model "auto"
  "The model.
\"auto\" is the best installed one that answers within
`greencode-latency-target', else \"bundled\".  Or a name of
`greencode-lsp models catalogue', \"ollama:NAME\", a GGUF file or a
folder.  A project's own value is ignored."
  :type '(choice (const "auto") (const "bundled") file directory string)
  :risky t)

(defcustom greencode-latency-target 800
  "Milliseconds that a typical suggestion may take, for the model \"auto\".
A project's own value is ignored."
  :type 'integer
  :risky t)

(defcustom greencode-unload-after 10
  "Minutes without a request after which the model goes from memory.
Or \"never\".  A project's own value is ignored."
  :type '(choice integer (const "never"))
  :risky t)

(defcustom greencode-shared-engine t
  "Non-nil: all your editors share one engine, instead of one each.
A project's own value is ignored."
  :type 'boolean
  :risky t)

(defcustom greencode-remote ""
  "The address of your team's engine, such as \"https://HOST:8750\".
Your own engine completes where it does not answer.  A project's own
value is ignored."
  :type 'string
  :risky t)

(defcustom greencode-max-new-tokens 32
  "Upper bound on the tokens of one completion, from 1 to 512."
  :type 'integer
  :safe #'integerp)

(defcustom greencode-max-prompt-tokens 448
  "Upper bound on the tokens read around point, from 16 to 32768."
  :type 'integer
  :safe #'integerp)

(defcustom greencode-context "file"
  "What a suggestion is made from besides the buffer's file.
\"file\" is nothing, \"open\" other open files of the same kind,
\"project\" these and files near it: imports, its test, its folder.
It costs 128 to 1,024 tokens of prompt, by `greencode-preference'."
  :type '(choice (const "file") (const "open") (const "project"))
  :safe #'stringp)

(defcustom greencode-debounce-ms "auto"
  "How long the server waits for you to go on typing.
\"auto\", or milliseconds from 0 to 2000, beside `greencode-idle-delay'."
  :type '(choice (const "auto") integer)
  :safe (lambda (value) (or (stringp value) (integerp value))))

(defcustom greencode-multiline "auto"
  "Whether a completion may have several lines."
  :type '(choice (const "auto") (const "always") (const "never"))
  :safe #'stringp)

(defcustom greencode-trigger "automatic"
  "When to suggest: while typing, or only when asked for."
  :type '(choice (const "automatic") (const "manual"))
  :safe #'stringp)

(defcustom greencode-in-comments t
  "Whether to suggest in comments without being asked."
  :type 'boolean
  :safe #'booleanp)

(defcustom greencode-in-strings t
  "Whether to suggest in strings and docstrings without being asked."
  :type 'boolean
  :safe #'booleanp)

(defcustom greencode-languages "auto"
  "The language ids to complete; \"auto\" takes those the model states."
  :type '(choice (const "auto") (repeat string)))

(defcustom greencode-exclude nil
  "Globs of files to leave alone, as in .gitignore."
  :type '(repeat string)
  :safe #'listp)

(defcustom greencode-per-language nil
  "Settings of one language over those of all.
An alist from language id to an alist from the server's name of a
setting to its value: ((java . ((preference . \"energy\"))))."
  :type '(alist :key-type symbol :value-type (alist :key-type symbol :value-type sexp)))

(defcustom greencode-energy-report t
  "Whether the server keeps its ledger of counts and joules."
  :type 'boolean)

(defcustom greencode-carbon-intensity nil
  "Grams of CO2e per kWh, from 0 to 2000; nil shows no CO2."
  :type '(choice (const :tag "Show no CO2" nil) number))

(defun greencode--json-list (value)
  "Return the list VALUE as a JSON array, any other value as it is."
  (if (listp value) (vconcat value) value))

(defun greencode--json-object (value)
  "Return the alist VALUE as a JSON object, also where it is empty."
  (or value (make-hash-table :size 1)))

(defun greencode--json-boolean (value)
  "Return VALUE as a JSON boolean."
  (if value t :json-false))

(defconst greencode--settings
  '((greencode-preference "preference" identity)
    (greencode-min-agreement "minAgreement" identity)
    (greencode-exit-policy "exitPolicy" identity)
    (greencode-on-battery "onBattery" identity)
    (greencode-device "device" identity)
    (greencode-precision "precision" identity)
    (greencode-model "model" identity)
    (greencode-latency-target "latencyTarget" identity)
    (greencode-unload-after "unloadAfter" identity)
    (greencode-shared-engine "sharedEngine" greencode--json-boolean)
    (greencode-remote "remote" identity)
    (greencode-max-new-tokens "maxNewTokens" identity)
    (greencode-max-prompt-tokens "maxPromptTokens" identity)
    (greencode-context "context" identity)
    (greencode-debounce-ms "debounceMs" identity)
    (greencode-multiline "multiline" identity)
    (greencode-trigger "trigger" identity)
    (greencode-in-comments "inComments" greencode--json-boolean)
    (greencode-in-strings "inStrings" greencode--json-boolean)
    (greencode-languages "languages" greencode--json-list)
    (greencode-exclude "exclude" greencode--json-list)
    (greencode-per-language "perLanguage" greencode--json-object)
    (greencode-energy-report "energy.report" greencode--json-boolean)
    (greencode-carbon-intensity "energy.carbonIntensity" identity))
  "Each variable, the server's name of it, and the function that makes JSON of it.")

(defconst greencode-machine-settings
  '(greencode-device greencode-precision greencode-model greencode-latency-target
    greencode-unload-after greencode-shared-engine greencode-remote)
  "Settings that choose what is loaded, and who is sent the text.
Buffer-local values, which a project may bring, do not count.")

(defconst greencode-machine-keys
  '(:model :device :precision :numeric :latencyTarget :unloadAfter :sharedEngine :remote)
  "The server's names of what a project has no say in.")

(defun greencode-program ()
  "Return the user's `greencode-command', whatever the current project says."
  (default-value 'greencode-command))

(defun greencode-own-folder ()
  "Return the folder in which the server is started, its own."
  (let ((folder (file-name-as-directory (locate-user-emacs-file "greencode"))))
    (unless (file-directory-p folder) (with-file-modes #o700 (make-directory folder t)))
    folder))

(defun greencode-environment ()
  "Return the server's environment, by which Python imports nothing of a project.
PYTHONPATH may name one; `python -m' imports from the current folder."
  `("PYTHONPATH" "PYTHONSAFEPATH=1" ,@(default-value 'process-environment)))

(defun greencode-make-process ()
  "Start the server and return its process."
  (let ((default-directory (greencode-own-folder))
        (process-environment (greencode-environment)))
    (make-process :name "greencode" :command (greencode-program) :connection-type 'pipe
                  :coding 'utf-8-emacs-unix :noquery t
                  :stderr (get-buffer-create "*greencode stderr*"))))

(defvar greencode--changed nil
  "The settings that have differed from their default in this session.
The others are left to the server; these are sent even when they
are back at their default, which changes what was sent before.")

(defun greencode-settings ()
  "Return (NAME . JSON) of each setting that is not at its default."
  (cl-loop for (symbol name to-json) in greencode--settings
           for value = (if (memq symbol greencode-machine-settings) (default-value symbol) (symbol-value symbol))
           unless (equal value (eval (car (get symbol 'standard-value)) t))
           do (cl-pushnew symbol greencode--changed)
           when (memq symbol greencode--changed)
           collect (cons name (funcall to-json value))))

(defun greencode-section ()
  "Return the settings of the current buffer as a JSON object."
  (let ((section (make-hash-table :test #'equal)))
    (pcase-dolist (`(,name . ,value) (greencode-settings))
      (let ((object section) (keys (split-string name "\\.")))
        (while (cdr keys)
          (setq object (or (gethash (car keys) object)
                           (puthash (car keys) (make-hash-table :test #'equal) object))
                keys (cdr keys)))
        (puthash (car keys) value object)))
    section))

(defun greencode-section-of (uri)
  "Return the settings for the file or folder URI, or for all if nil.
Directory-local values are those of a buffer that visits such a file."
  (let* ((path (and uri (greencode-uri-to-path uri)))
         (buffer (and path (cl-find-if
                            (lambda (buffer)
                              (when-let ((file (buffer-local-value 'buffer-file-name buffer)))
                                (or (equal file path) (file-in-directory-p file path))))
                            (buffer-list)))))
    (if buffer (with-current-buffer buffer (greencode-section))
      (with-temp-buffer (greencode-section)))))

(defvar greencode--statuses (make-hash-table :test #'eq :weakness 'key)
  "Server -> the plist of its latest greencode/status.")

(defvar greencode--push-timer nil)

(defun greencode--setting-changed (symbol _value operation _where)
  "Tell every server soon that SYMBOL was changed by OPERATION, whoever set it."
  (when (and (memq operation '(set makunbound)) (greencode-servers))
    (cl-pushnew symbol greencode--changed)
    (unless (memq greencode--push-timer timer-list)
      (setq greencode--push-timer (run-with-timer 0 nil #'greencode-push-settings)))))

(defun greencode-push-settings ()
  "Send the settings to every running server."
  (with-temp-buffer                     ; the default values: the server pulls those of a folder
    (let ((settings (list :greencode (greencode-section))))
      (dolist (server (greencode-servers))
        (greencode-notify server "workspace/didChangeConfiguration" (list :settings settings))))))

;;;; Servers and their status

(defvar greencode-status-hook nil
  "Run after a server has sent its status.")

(defun greencode-servers ()
  "Return the running servers that have said something."
  (cl-loop for server being the hash-keys of greencode--statuses
           when (greencode-live-p server) collect server))

(defun greencode-status-of (server)
  "Return the latest status of SERVER, a plist with the keys of greencode/status."
  (and server (gethash server greencode--statuses)))

(defun greencode-take-status (server status)
  "Keep STATUS, a plist, as what SERVER has said last."
  (puthash server status greencode--statuses)
  (force-mode-line-update t)
  (run-hooks 'greencode-status-hook))

(defvar greencode-server-functions nil
  "Functions that return the server that manages the current buffer, or nil.
Without any, the package's own connection is used.")

(cl-defgeneric greencode-live-p (server)
  "Return non-nil where SERVER is running."
  (:method ((server jsonrpc-connection)) (jsonrpc-running-p server)))

(cl-defgeneric greencode-draws-ghost-p (_server)
  "Return non-nil where the ghost text of SERVER is ours to show."
  (:method (_server) t))

(cl-defgeneric greencode-sync (server)
  "Tell SERVER the current buffer's text; return nil while it is not ready.")

(cl-defgeneric greencode-knows-p (_server)
  "Return non-nil where SERVER has been sent the current buffer."
  t)

(cl-defgeneric greencode-document (server)
  "Return the TextDocumentIdentifier by which SERVER knows the current buffer.")

(cl-defgeneric greencode-encoding (_server)
  "Return what SERVER counts columns in, utf-16 or utf-32."
  (:method (_server) 'utf-16))

(cl-defgeneric greencode-notify (server method params)
  "Send SERVER the notification METHOD with PARAMS."
  (:method ((server jsonrpc-connection) method params)
           (when (jsonrpc-running-p server)
             (jsonrpc-notify server (intern method) params))))

(cl-defgeneric greencode-request (server method params on-result &optional on-error)
  "Send SERVER the request METHOD with PARAMS; return a function that cancels it.
ON-RESULT is called with the result, a plist; ON-ERROR with the
sentence of a failure that is not a cancellation."
  (:method ((server jsonrpc-connection) method params on-result &optional on-error)
           (when (jsonrpc-running-p server)
             (let* ((done nil)
                    ;; the public function does not give the id, without which nothing can be cancelled
                    (id (car (jsonrpc--async-request-1
                              server (intern method) params
                              :timeout nil
                              :success-fn (lambda (result) (setq done t) (funcall on-result result))
                              :error-fn (lambda (error)
                                          (setq done t)
                                          (when (and on-error (not (eql (plist-get error :code) -32800)))
                                            (funcall on-error (plist-get error :message))))))))
               (lambda ()
                 (unless (or done (not (jsonrpc-running-p server)))
                   (setq done t)
                   (jsonrpc-notify server '$/cancelRequest (list :id id))))))))

(defun greencode-execute (server command arguments &optional on-result)
  "Have SERVER execute COMMAND with ARGUMENTS, a list; ON-RESULT takes the result."
  (greencode-request server "workspace/executeCommand"
                     (list :command command :arguments (vconcat arguments))
                     (or on-result #'ignore)
                     (lambda (sentence) (message "GreenCode: %s" sentence))))

;;;; Positions

(defun greencode--units (beg end encoding)
  "Return how many units of ENCODING the text from BEG to END takes."
  (if (eq encoding 'utf-32) (- end beg)
    (cl-loop for position from beg below end
             sum (if (< #xffff (char-after position) #x110000) 2 1))))

(defun greencode-position (encoding)
  "Return point as an LSP position in units of ENCODING."
  (save-restriction
    (widen)
    (list :line (1- (line-number-at-pos nil t))
          :character (greencode--units (line-beginning-position) (point) encoding))))

(defun greencode-column-to-point (character encoding)
  "Return the position CHARACTER units of ENCODING into the line of point."
  (save-restriction
    (widen)
    (let ((position (line-beginning-position)) (end (line-end-position)) (units 0))
      (while (and (< position end) (< units character))
        (setq units (+ units (greencode--units position (1+ position) encoding))
              position (1+ position)))
      position)))

(defun greencode-uri-to-path (uri)
  "Return the file name of URI."
  (decode-coding-string (url-unhex-string (string-remove-prefix "file://" uri)) 'utf-8))

(pcase-dolist (`(,symbol . ,_) greencode--settings)
  (add-variable-watcher symbol #'greencode--setting-changed))

(provide 'greencode-core)
;;; greencode-core.el ends here
